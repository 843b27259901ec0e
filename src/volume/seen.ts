/**
 * Whether anybody sees a volume: a mount of its directory, or of what is mounted there, in any process' mount namespace.
 * Only mount tables are read; the volume itself, which may never answer, is not touched.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import { join, relative } from "node:path";
import { type MountEntry, parseMountInfo } from "../host/mount.ts";

/** The first pid namespace of a machine (proc_ns.h); only from there every process is visible. */
const firstPidNamespace = "pid:[4026531836]";

/** `path` is free of symlinks. Unknown: not every process can be seen from here. */
export async function whoSees(path: string): Promise<"somebody" | "nobody" | "unknown"> {
  const own = parseMountInfo(await readFile("/proc/self/mountinfo"));
  const known = new Set<string>();
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const namespace = await readlink(`/proc/${pid}/ns/mnt`);
      if (known.has(namespace)) continue;
      const table = parseMountInfo(await readFile(`/proc/${pid}/mountinfo`));
      known.add(namespace);
      if (shows(table, { own, path })) return "somebody";
    } catch {
      // the process ended meanwhile
    }
  }
  return (await readlink("/proc/self/ns/pid")) === firstPidNamespace ? "nobody" : "unknown";
}

/** Whether `table` has a mount of what the namespace with the table `own` has at `path`, at any other place. */
export function shows(table: readonly MountEntry[], { own, path }: Place): boolean {
  const there = whereIs({ own, path });
  return table.some(
    (entry) => entry.device === there.device && entry.target !== path && isWithin(entry.root, there.root),
  );
}

type Place = { readonly own: readonly MountEntry[]; readonly path: string };

/** The filesystem that `path` is in, and its name there. */
function whereIs({ own, path }: Place): { readonly device: string; readonly root: string } {
  let found: MountEntry | undefined;
  // of those that reach furthest, the latest covers the others
  for (const entry of own)
    if (isWithin(path, entry.target) && entry.target.length >= (found?.target.length ?? 0)) found = entry;
  if (found === undefined) return { device: "", root: "/" };
  return { device: found.device, root: join(found.root, relative(found.target, path)) };
}

const isWithin = (path: string, folder: string): boolean =>
  folder === "/" || path === folder || path.startsWith(`${folder}/`);
