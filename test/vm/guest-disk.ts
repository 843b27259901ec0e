/**
 * The guest's system disk, made from files of this machine without mounting anything (mke2fs -d): the programs that
 * Strata calls, with the libraries they need, and busybox for the rest.
 */
import { cpSync, existsSync, mkdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { command, scratchFolder, succeed } from "../support/engine.ts";

const programs = [
  "runc",
  "conmon",
  "tini",
  "mkfs.ext4",
  "mkfs.xfs",
  "mkfs.btrfs",
  "mount",
  "umount",
  "unshare",
  "busybox",
];
const data = ["/usr/share/containers/seccomp.json", "/etc/mke2fs.conf"];
const merged = ["bin", "sbin", "lib", "lib64"];

/** Where a file stands once /bin, /sbin and /lib are links into /usr. */
export function inUsr(path: string): string {
  return merged.some((folder) => path.startsWith(`/${folder}/`)) ? `/usr${path}` : path;
}

export function copyFile(path: string, root: string, as: string): void {
  const target = join(root, as);
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  cpSync(realpathSync(path), target);
}

/** A program and the libraries that the loader would find for it. */
export async function copyProgram(path: string, root: string, as = inUsr(path)): Promise<void> {
  copyFile(path, root, as);
  for (const library of await libraries(path)) copyFile(library, root, inUsr(library));
}

export async function libraries(path: string, environment: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const words = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const { stdout } = await command("env", [...words, "ldd", path]);
  return [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].flatMap((match) => match[1] ?? []);
}

/** Programs of packages that were unpacked in `from`, at the places that they would be installed in. */
async function copyUnpacked({ from, programs }: Unpacked, root: string): Promise<void> {
  const place = (path: string): string => inUsr(path.startsWith(from) ? path.slice(from.length) : path);
  for (const program of programs) {
    const path = join(from, program);
    copyFile(path, root, place(path));
    for (const library of await libraries(path, { LD_LIBRARY_PATH: join(from, "lib/x86_64-linux-gnu") }))
      copyFile(library, root, place(library));
  }
}

export type Unpacked = { readonly from: string; readonly programs: readonly string[] };

export async function which(program: string): Promise<string> {
  const { stdout } = await command("sh", ["-c", 'PATH=$PATH:/usr/sbin:/sbin command -v "$1"', "which", program]);
  const path = stdout.trim();
  if (path === "") throw new Error(`${program} is not installed`);
  return path;
}

/** An ext4 image that holds `folder`. */
export async function pack(folder: string, image: string): Promise<void> {
  const kilobytes = Number((await succeed("du", ["-sk", folder])).split("\t")[0]);
  rmSync(image, { force: true });
  const size = `${Math.ceil(kilobytes * 1.2) + 16_384}k`;
  await succeed("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", folder, image, size]);
}

type Extra = {
  readonly programs?: readonly string[];
  readonly unpacked?: readonly Unpacked[];
  /** Puts more below the folder that becomes the disk. */
  readonly fill?: (root: string) => Promise<void>;
};

/** The system disk; it changes with this machine's programs only. */
export async function makeSystemDisk(image: string, extra: Extra = {}): Promise<void> {
  using scratch = scratchFolder();
  const root = scratch.path;
  const folders = ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "tmp", "var"];
  for (const name of [...folders, "data", "root", "strata"]) mkdirSync(join(root, name), { recursive: true });
  for (const name of merged) symlinkSync(`usr/${name}`, join(root, name));
  for (const program of [...programs, ...(extra.programs ?? [])]) await copyProgram(await which(program), root);
  await copyProgram(process.execPath, root, "/usr/bin/node");
  for (const unpacked of extra.unpacked ?? []) await copyUnpacked(unpacked, root);
  for (const path of data) if (existsSync(path)) copyFile(path, root, inUsr(path));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "root:x:0:\n");
  await extra.fill?.(root);
  const busybox = inUsr(await which("busybox"));
  for (const applet of (await succeed("busybox", ["--list"])).trim().split("\n"))
    if (!existsSync(join(root, "usr/bin", applet)) && !existsSync(join(root, "usr/sbin", applet)))
      symlinkSync(busybox, join(root, "usr/bin", applet));
  await pack(root, image);
}
