/**
 * What a guest needs on its system disk to serve volumes to itself and to mount them: servers of unpacked Debian
 * packages, with what they load, the programs that mount, the docker CLI, and engines that others wrote.
 */
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dockerdIsHere } from "../support/engine.ts";
import { podmanIsHere } from "../support/podman.ts";
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
/** Their own runc and conmon are every guest's. */
const engines = {
  dockerd: ["dockerd", "containerd", "containerd-shim-runc-v2"],
  podman: ["podman"],
} as const;
/** Names of ports and protocols, and whose images podman takes. */
const data = ["/etc/netconfig", "/etc/services", "/etc/protocols", "/etc/rpc", "/etc/containers/policy.json"];
/** Those that the portmapper and the lock manager become, and Samba's guest. */
const users = ["_rpc", "statd", "nobody"].map((name, index) => `${name}:x:${65_532 + index}:65534::/:/bin/sh\n`);

/** Programs come from `packages` (unpacked), and from this machine where they are none of theirs. */
export async function copyServices(packages: string, root: string): Promise<void> {
  const copied = { recursive: true, verbatimSymlinks: true, filter: (path: string) => !path.includes("/python3") };
  for (const folder of ["usr/lib", "usr/libexec"])
    if (existsSync(join(packages, folder))) cpSync(join(packages, folder), join(root, folder), copied);
  const folder = join(packages, "usr/lib/x86_64-linux-gnu");
  const environment = { LD_LIBRARY_PATH: `${folder}:${join(folder, "samba")}` };
  const stock = [...(dockerdIsHere() ? engines.dockerd : []), ...(podmanIsHere() ? engines.podman : [])];
  for (const program of [...mounting, ...serving, "docker", ...stock]) {
    const unpacked = ["usr/sbin", "usr/bin", "sbin", "bin"].map((name) => join(packages, name, program));
    const path = unpacked.find((one) => existsSync(one)) ?? (await which(program));
    for (const file of [path, ...(await libraries(path, environment))])
      copyFile(file, root, inUsr(file.replace(packages, "").replace(/^\/usr\/local\//, "/usr/")));
  }
  // The shell of busybox prefers its own programs to those of the machine.
  await copyProgram(await which("sh"), root);
  for (const path of data) if (existsSync(path)) copyFile(path, root, inUsr(path));
  // For dockerd's key.
  mkdirSync(join(root, "etc/docker"), { recursive: true });
  symlinkSync("/proc/self/mounts", join(root, "etc/mtab"));
  writeFileSync(join(root, "etc/exports"), "");
  writeFileSync(join(root, "etc/passwd"), users.join(""), { flag: "a" });
  writeFileSync(join(root, "etc/group"), "nogroup:x:65534:\n", { flag: "a" });
}
