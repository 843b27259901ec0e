/**
 * A picture of a tree: one line per path with everything that a layer may set (type, permissions, owner, size, content,
 * modification time, device numbers, link target, xattrs, link structure). Two trees are the same when their pictures
 * are. For suites that compare drivers; it reads whole files.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { AT_FDCWD, getXattr, listXattrs } from "./sys.ts";

/** Lines by path, the root first; a directory's times are told too. */
export function pictureOf(root: string): string[] {
  const lines: string[] = [];
  const inodes = new Map<bigint, string>();
  walk(Buffer.from(root), "/");
  return lines;

  function walk(real: Buffer, shown: string): void {
    const stat = lstatSync(real, { bigint: true });
    const type = Number(stat.mode) & 0o170000;
    const parts = [shown, (Number(stat.mode) >>> 0).toString(8), `${stat.uid}:${stat.gid}`, `${stat.mtimeNs}`];
    if (type === 0o100000) parts.push(`${stat.size}`, createHash("sha256").update(readFileSync(real)).digest("hex"));
    if (type === 0o120000) parts.push(`-> ${readlinkSync(real, "latin1")}`);
    if (type === 0o020000 || type === 0o060000) parts.push(`device ${stat.rdev}`);
    if (type !== 0o040000) {
      const first = inodes.get(stat.ino);
      if (first === undefined) inodes.set(stat.ino, shown);
      else parts.push(`= ${first}`);
    }
    lines.push([...parts, ...xattrsOf(real)].join(" "));
    if (type !== 0o040000) return;
    for (const name of readdirSync(real, { encoding: "buffer" }).sort(Buffer.compare))
      walk(Buffer.concat([real, Buffer.from("/"), name]), `${shown === "/" ? "" : shown}/${name.toString("latin1")}`);
  }
}

function xattrsOf(path: Buffer): string[] {
  return listXattrs(AT_FDCWD, path)
    .toSorted()
    .map((name) => `${name}=${getXattr(AT_FDCWD, path, name)?.toString("hex")}`);
}
