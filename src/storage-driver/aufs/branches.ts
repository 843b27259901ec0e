/**
 * How aufs is told its branches (aufs.5): `br:<writable>=rw:<layer>=ro+wh:...`, the topmost first. `ro+wh` is a branch
 * whose whiteouts count. mount(2) reads one page, so branches that do not fit are appended by remounts, as moby did.
 *
 * Values only; nothing here touches a disk.
 */
import { EngineError } from "../../base/errors.ts";
import type { MountStep } from "../../base/mount.ts";

/** Branches that aufs takes in one union (CONFIG_AUFS_BRANCH_MAX_127), less a writable and an init layer. */
export const mostParents = 125;

/** mount(2) copies a page, and a NUL ends it. */
const longestData = 4095;

export type Branches = {
  /** Directories of the layers, from the topmost down. */
  readonly layers: readonly string[];
  /** What is written to; without it the union is read-only. */
  readonly writable?: string;
  /** Whether the kernel's aufs knows `dirperm1`: only the topmost directory's permissions count. */
  readonly dirperm1: boolean;
};

/** The union of `branches` as one mount. Throws invalid_argument for a path that aufs cannot be told. */
export function unionStep({ layers, writable, dirperm1 }: Branches): MountStep {
  const all = [
    ...(writable === undefined ? [] : [`${checked(writable)}=rw`]),
    ...layers.map((layer) => `${checked(layer)}=ro+wh`),
  ];
  // Inode numbers are kept in a file that every union shares and nobody sees (xino).
  const fixed = ["dio", "xino=/dev/shm/aufs.xino", ...(dirperm1 ? ["dirperm1"] : [])];
  const room = longestData - [...fixed, ""].join(",").length;
  const first = fitting(all, { room, before: "br:", between: ":" });
  const more: string[][] = [];
  for (let at = first.length; at < all.length; ) {
    const appended = all.slice(at).map((branch) => `append:${branch}`);
    const batch = fitting(appended, { room: longestData, before: "", between: "," });
    more.push([...batch]);
    at += batch.length;
  }
  const options = [`br:${first.join(":")}`, ...fixed, ...(writable === undefined ? ["ro"] : [])];
  return { kind: "filesystem", type: "aufs", source: "none", options, ...(more.length === 0 ? {} : { more }) };
}

/** What aufs reads as its own in a path cannot be quoted. */
export function unspeakable(path: string): boolean {
  return /[:,=\\\s]/.test(path);
}

function checked(path: string): string {
  if (unspeakable(path))
    throw new EngineError(
      "invalid_argument",
      `aufs cannot be told the path ${JSON.stringify(path)}: it holds one of : , = \\ or a space`,
    );
  return path;
}

type Room = { readonly room: number; readonly before: string; readonly between: string };

/** As many of `parts` as fit; at least one, which no path is too long for (PATH_MAX is less than a page with its words, or mount(2) fails). */
function fitting(parts: readonly string[], { room, before, between }: Room): readonly string[] {
  let length = before.length;
  let count = 0;
  for (const part of parts) {
    length += Buffer.byteLength(part) + (count === 0 ? 0 : between.length);
    if (length > room && count > 0) break;
    count++;
  }
  return parts.slice(0, count);
}
