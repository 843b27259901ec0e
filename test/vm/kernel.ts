/**
 * The guest's kernel: Debian's cloud kernel, unpacked (not installed) below a cache folder, and its first root: busybox,
 * the modules that the guest needs in the order of their dependencies, and a script that hands over to the guest's disk.
 */
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type CpioMember, cpioOf } from "./cpio.ts";

/** What SMB signs and encrypts with, asked for by name when a session begins: nobody loads modules then. */
const ciphers = ["ccm", "cmac", "ctr", "gcm", "ghash_generic", "md5", "seqiv", "sha512_generic"];

/** Folder in the first root -> modules. A filesystem's are loaded when it is the data disk's. */
const wanted = {
  always: ["virtio_pci", "virtio_blk", "virtio_console", "overlay", "loop"],
  // ext4 itself is in the kernel; this is for its project quotas.
  ext4: ["quota_v2"],
  xfs: ["xfs"],
  // The driver's own tests want another filesystem beside it.
  btrfs: ["btrfs", "xfs"],
  zfs: ["zfs"],
  // Servers and clients of volumes, and a wire between them that can be cut. The data disk is xfs.
  volumes: ["xfs", "veth", "nfsd", "nfs", "nfsv3", "nfsv4", "cifs", ...ciphers],
} as const;

export type Kernel = { readonly image: string; readonly firstRoot: string };

type Found = {
  readonly image: string;
  readonly modules: string;
  /** OpenZFS, where somebody built it for this kernel: its modules, and a folder with its programs. */
  readonly zfs?: { readonly modules: string; readonly root: string };
};

/** The kernel below `cache` (its package unpacked in `kernel/`), or undefined. */
export function findKernel(cache: string): Found | undefined {
  const image = globSync(join(cache, "kernel/boot/vmlinuz-*"))[0];
  const modules = globSync(join(cache, "kernel/lib/modules/*/kernel"))[0];
  if (image === undefined || modules === undefined) return undefined;
  const folder = join(cache, "zfs");
  const release = join(folder, "release");
  const isBuilt = existsSync(release) && readFileSync(release, "utf8") === basename(image).replace("vmlinuz-", "");
  return {
    image,
    modules,
    ...(isBuilt ? { zfs: { modules: join(folder, "modules"), root: join(folder, "root") } } : {}),
  };
}

const directory = (name: string): CpioMember => ({ name, mode: 0o040755 });

/** Makes the first root in `cache`. */
export function makeFirstRoot(found: Found, cache: string): Kernel {
  const members = ["bin", "modules", "proc", "sys", "dev", "root"].map(directory);
  for (const [folder, names] of Object.entries(wanted)) {
    members.push(directory(`modules/${folder}`));
    for (const [index, path] of inOrder([found.modules, found.zfs?.modules], names).entries()) {
      const name = `modules/${folder}/${String(index).padStart(2, "0")}-${basename(path)}`;
      members.push({ name, mode: 0o100644, content: readFileSync(path) });
    }
  }
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path)) ?? "/bin/busybox";
  members.push({ name: "bin/busybox", mode: 0o100755, content: readFileSync(busybox) });
  const init = readFileSync(new URL("./guest/first-init.sh", import.meta.url));
  members.push({ name: "init", mode: 0o100755, content: init });
  const firstRoot = join(cache, "first-root.cpio");
  writeFileSync(firstRoot, cpioOf(members));
  return { image: found.image, firstRoot };
}

/** Module files, each after those it depends on; the kernel names its modules with `_`, their files have either. */
function inOrder(folders: readonly (string | undefined)[], wantedNames: readonly string[]): string[] {
  const files = folders.flatMap((folder) => (folder === undefined ? [] : globSync(join(folder, "**/*.ko"))));
  const paths = new Map(files.map((path) => [moduleName(basename(path, ".ko")), path]));
  const order = new Set<string>();
  const add = (name: string): void => {
    const path = paths.get(moduleName(name));
    // Built into the kernel, or nobody built it.
    if (path === undefined || order.has(path)) return;
    for (const dependency of dependencies(path)) add(dependency);
    order.add(path);
  };
  for (const name of wantedNames) add(name);
  return [...order];
}

const moduleName = (text: string): string => text.replaceAll("-", "_");

/** What `modinfo -F depends` prints, and what a module wants loaded before it without needing it. */
function dependencies(path: string): string[] {
  const text = readFileSync(path).toString("latin1");
  const soft = [...text.matchAll(/\0softdep=pre: ([^\0]+)/g)].flatMap((match) => (match[1] ?? "").split(" "));
  const hard = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
  return [...soft, ...hard.split(",")].filter((name) => name !== "");
}
