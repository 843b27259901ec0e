/**
 * Turns differences into what clients ask for: a list of changes in Docker's words (`GET /containers/{id}/changes`), a
 * layer tar (OCI image-spec, layer.md: deletions as empty files `.wh.name` before their siblings), or a size.
 */
import { type Change, changeKind } from "../base/change.ts";
import { EngineError } from "../base/errors.ts";
import { byteText, quoted, splitPath } from "./bytes.ts";
import { isDirectory } from "./root-tree.ts";
import type { TreeCopy } from "./tree-copy.ts";
import type { Difference, NewFile } from "./tree-diff.ts";
import { TarWriter } from "./write-tar.ts";
import { TreeWriter, type XattrNames } from "./write-tree.ts";

const whiteout = ".wh.";

/** Sorted by the bytes of the path; the root itself is never listed, as in Docker. */
export function listChanges(differences: Iterable<Difference>): Change[] {
  const found: { readonly path: string; readonly kind: Change["kind"] }[] = [];
  for (const { path, kind } of differences) if (path !== "") found.push({ path: `/${path}`, kind: changeKind[kind] });
  found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return found.map(({ path, kind }) => ({ path: byteText(path), kind }));
}

export type LayerWriting = TarTimes & {
  readonly names: XattrNames;
  readonly write: (chunk: Uint8Array) => Promise<void>;
  /** Gets what is written to the tar, but for deletions. */
  readonly copy?: TreeCopy | undefined;
};

export type TarTimes = {
  /** Times to the nanosecond, for a tar that moves a tree; cut to seconds otherwise, as in Docker's layers. */
  readonly exactTimes?: boolean | undefined;
};

export async function writeLayer(
  differences: Iterable<Difference | NewFile>,
  { names, write, exactTimes, copy }: LayerWriting,
): Promise<void> {
  const tar = new TarWriter(write);
  const tree = new TreeWriter(tar, names, { exactTimes, copy });
  for (const difference of differences) {
    const { parent, name } = splitPath(difference.path);
    if (name.startsWith(whiteout))
      throw new EngineError(
        "invalid_argument",
        `${quoted(`/${difference.path}`)}: a layer cannot hold a name that begins with ${whiteout}; rename it`,
      );
    if (difference.kind === "deleted")
      await tar.add({
        path: parent === "" ? whiteout + name : `${parent}/${whiteout}${name}`,
        type: "file",
        mode: 0o600,
      });
    else if (difference.kind === "new file") {
      const added = tree.addFile(difference.at, difference.path);
      if (typeof added !== "boolean") await added;
    } else await tree.add(difference.at, difference.stat, difference.path === "" ? "./" : difference.path);
  }
  await tar.finish();
}

/** Bytes of what is no directory and was added or changed, each inode once. */
export function sizeOf(differences: Iterable<Difference>): number {
  const linked = new Set<string>();
  let size = 0;
  for (const difference of differences) {
    if (difference.kind === "deleted" || isDirectory(difference.stat.mode)) continue;
    const { dev, ino, nlink } = difference.stat;
    const inode = `${dev}:${ino}`;
    if (nlink > 1 && linked.has(inode)) continue;
    if (nlink > 1) linked.add(inode);
    size += difference.stat.size;
  }
  return size;
}
