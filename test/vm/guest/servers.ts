/**
 * Servers of volumes, run in the guest: the kernel's NFS server and Samba, in a network of their own behind a wire that
 * can be cut: then packets vanish, as they do when a server loses its power. They share folders of the data disk.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const server = "10.9.0.2";
export const password = "pass, word=%&'\"\\ with everything";
export const nfsFolder = "/data/server/nfs";
export const smbFolder = "/data/server/smb";

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

/** Runs a program where the servers are. */
const there = (...command: readonly string[]): string => run("ip", "netns", "exec", "servers", ...command);

/** The device is formatted and mounted on /data; the servers serve when it resolves. */
export async function startServers(device: string): Promise<void> {
  run("mkfs.xfs", "-q", "-f", device);
  run("mount", "-t", "xfs", "-o", "prjquota", device, "/data");
  for (const folder of [
    nfsFolder,
    smbFolder,
    "/run/netns",
    "/var/lib/nfs/v4recovery",
    "/var/lib/nfs/sm",
    "/var/samba",
    "/var/log/samba",
  ])
    mkdirSync(folder, { recursive: true });
  for (const name of ["etab", "rmtab"]) writeFileSync(`/var/lib/nfs/${name}`, "");
  run("ip", "netns", "add", "servers");
  run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "far", "netns", "servers");
  run("ip", "address", "add", "10.9.0.1/24", "dev", "wire");
  run("ip", "link", "set", "wire", "up");
  for (const words of ["address add 10.9.0.2/24 dev far", "link set far up", "link set lo up"])
    run("ip", "-n", "servers", ...words.split(" "));
  // So that a connection to a server that is away waits for it, as it does behind a router.
  const address = /link\/ether (\S+)/.exec(run("ip", "-n", "servers", "link", "show", "far"))?.[1] ?? "";
  run("ip", "neighbour", "replace", "10.9.0.2", "lladdr", address, "dev", "wire", "nud", "permanent");
  serveNfs();
  serveSmb();
  for (
    let tries = 0;
    !there("smbstatus", "--version").includes("Version") || !existsSync("/var/samba/smbd.pid");
    tries++
  ) {
    if (tries > 300) throw new Error("samba does not begin");
    await sleep(100);
  }
}

function serveNfs(): void {
  const options = "rw,no_root_squash,insecure,no_subtree_check,fsid=1";
  const script = [
    "mount -t nfsd nfsd /proc/fs/nfsd",
    // Each network has its own portmapper, and they would share a lock.
    "mount -t tmpfs tmpfs /run",
    "rpcbind",
    `exportfs -o ${options} "*:${nfsFolder}"`,
    "rpc.mountd",
    "rpc.nfsd --lease-time 10 --grace-time 10 4",
  ];
  there("sh", "-ec", script.join("\n"));
  // Locks of NFS 3 on the client's side.
  run("rpcbind");
}

function serveSmb(): void {
  const folders = [
    "private dir",
    "lock directory",
    "state directory",
    "cache directory",
    "pid directory",
    "ncalrpc dir",
  ];
  const settings = [
    "workgroup = STRATA",
    "security = user",
    "load printers = no",
    "printcap name = /dev/null",
    "disable spoolss = yes",
    "log file = /var/samba/log",
    ...folders.map((name) => `${name} = /var/samba`),
  ];
  const text = `[global]\n${settings.join("\n")}\n[share]\npath = ${smbFolder}\nread only = no\n`;
  writeFileSync("/var/samba/smb.conf", text);
  const input = `${password}\n${password}\n`;
  execFileSync("smbpasswd", ["-c", "/var/samba/smb.conf", "-s", "-a", "root"], { input });
  there("smbd", "-D", "-s", "/var/samba/smb.conf");
}

/** From here on every packet to the servers and from them is lost, without a word to who sends it. */
export const cutWire = (): void => void run("ip", "-n", "servers", "link", "set", "far", "down");

/** The servers are there again, with what they had. */
export const mendWire = (): void => void run("ip", "-n", "servers", "link", "set", "far", "up");

/** From here on Samba takes what is sent to it, and answers nothing. */
export const stopSamba = (): void => signalSamba("SIGSTOP");

export const wakeSamba = (): void => signalSamba("SIGCONT");

/** It has a process for each connection. */
function signalSamba(signal: NodeJS.Signals): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    if (commandOf(pid) === "smbd\n") process.kill(Number(pid), signal);
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8");
  } catch {
    // It ended.
    return "";
  }
}
