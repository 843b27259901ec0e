/**
 * What a guest needs on its system disk to serve volumes to itself and to mount them: servers of unpacked Debian
 * packages, with what they load, the programs that mount, and the docker CLI.
 */
import { cpSync, existsSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyFile, copyProgram, inUsr, libraries, which } from "./guest-disk.ts";

const mounting = ["mount.nfs", "mount.cifs", "rpc.statd", "start-statd", "sm-notify", "flock"];
const serving = [
  "ip",
  "rpcbind",
  "rpc.nfsd",
  "rpc.mountd",
  "exportfs",
  "nfsdcltrack",
  "smbd",
  "smbpasswd",
  "smbstatus",
];
/** Names of ports and protocols. */
const data = ["/etc/netconfig", "/etc/services", "/etc/protocols", "/etc/rpc"];
/** Those that the portmapper and the lock manager become, and Samba's guest. */
const users = ["_rpc", "statd", "nobody"].map((name, index) => `${name}:x:${65_532 + index}:65534::/:/bin/sh\n`);

/** Programs come from `packages` (unpacked), and from this machine where they are none of theirs. */
export async function copyServices(packages: string, root: string): Promise<void> {
  const copied = { recursive: true, verbatimSymlinks: true, filter: (path: string) => !path.includes("/python3") };
  for (const folder of ["usr/lib", "usr/libexec"])
    if (existsSync(join(packages, folder))) cpSync(join(packages, folder), join(root, folder), copied);
  const folder = join(packages, "usr/lib/x86_64-linux-gnu");
  const environment = { LD_LIBRARY_PATH: `${folder}:${join(folder, "samba")}` };
  for (const program of [...mounting, ...serving, "docker"]) {
    const unpacked = ["usr/sbin", "usr/bin", "sbin", "bin"].map((name) => join(packages, name, program));
    const path = unpacked.find((one) => existsSync(one)) ?? (await which(program));
    for (const file of [path, ...(await libraries(path, environment))])
      copyFile(file, root, inUsr(file.replace(packages, "").replace(/^\/usr\/local\//, "/usr/")));
  }
  // The shell of busybox prefers its own programs to those of the machine.
  await copyProgram(await which("sh"), root);
  for (const path of data) if (existsSync(path)) copyFile(path, root, inUsr(path));
  symlinkSync("/proc/self/mounts", join(root, "etc/mtab"));
  writeFileSync(join(root, "etc/exports"), "");
  writeFileSync(join(root, "etc/passwd"), users.join(""), { flag: "a" });
  writeFileSync(join(root, "etc/group"), "nogroup:x:65534:\n", { flag: "a" });
}
