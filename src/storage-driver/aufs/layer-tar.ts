/**
 * An aufs branch as a layer tar: what `strata adopt` reads of a Docker that used aufs. No aufs is needed; `diff` is the
 * branch's directory (`diff/<id>`, see layout.ts), which nobody writes to meanwhile.
 *
 * Contract: the tar holds every entry of the branch (also its root, as "./"), owners, modes, times to the second (exact
 * where that is asked for),
 * xattrs, hard links within the branch. A directory stands before what is in it, and in a directory the opaque mark and
 * the whiteouts before the rest, so that the tar means the same to every reader (OCI image-spec, layer.md); aufs' own
 * files stay out. Each whiteout is an empty file of its own, though aufs keeps them as links of one inode. A whiteout
 * beside an entry of its name stays: that is how a layer says "this one replaces what is below".
 *
 * Whoever filled the branch is a stranger: links are not followed, names that no aufs writes are refused with
 * invalid_argument. The same branch gives the same bytes. Synchronous reads: for workers (`aufsLayerTarTask`).
 */
import { type ByteString, bytesOf, joinPath, quoted } from "../../archive/bytes.ts";
import { findStat, isDirectory, isFile, type Location, openDirectory } from "../../archive/root-tree.ts";
import type { TarTimes } from "../../archive/write-difference.ts";
import { TarWriter } from "../../archive/write-tar.ts";
import { plainXattrs, TreeWriter } from "../../archive/write-tree.ts";
import { EngineError } from "../../base/errors.ts";
import type { TaskContext } from "../../host/pool.ts";
import { AT_FDCWD, closeFd, type FileStat, O, openat2, readDirectory } from "../../host/sys.ts";
import { meaningOf, opaqueName } from "./dialect.ts";

type Write = (chunk: Uint8Array) => Promise<void>;
type Output = { readonly tar: TarWriter; readonly tree: TreeWriter; readonly signal: AbortSignal | undefined };

export type AufsTarOptions = TarTimes & { readonly signal?: AbortSignal };

/** Writes the layer tar of the branch at `diff`, a path of our own choice. */
export async function writeAufsLayer(diff: string, write: Write, options: AufsTarOptions = {}): Promise<void> {
  const { signal, exactTimes } = options;
  const tar = new TarWriter(write);
  const tree = new TreeWriter(tar, plainXattrs, { exactTimes });
  const fd = openat2(AT_FDCWD, diff, { flags: O.RDONLY | O.DIRECTORY | O.NOFOLLOW });
  try {
    const root = { fd, name: "" };
    const stat = findStat(fd, "");
    if (stat !== undefined) await tree.add(root, stat, "./");
    await writeDirectory({ tar, tree, signal }, root, "");
  } finally {
    closeFd(fd);
  }
  await tar.finish();
}

/** {@link writeAufsLayer} for the pool: the output is the tar. */
export function aufsLayerTarTask(
  { diff, exactTimes }: TarTimes & { readonly diff: string },
  { write, signal }: TaskContext,
): Promise<void> {
  return writeAufsLayer(diff, write, { exactTimes, signal });
}

async function writeDirectory(output: Output, at: Location, path: ByteString): Promise<void> {
  const fd = openDirectory(at.fd, at.name === "" ? "." : at.name);
  try {
    const entries: ByteString[] = [];
    for (const name of readDirectory(fd).map(bytesOf).sort()) {
      output.signal?.throwIfAborted();
      if (meaningOf(name).kind === "entry") entries.push(name);
      else await writeMark(output.tar, { fd, name }, path);
    }
    for (const name of entries) {
      output.signal?.throwIfAborted();
      const stat = findStat(fd, name);
      if (stat === undefined) continue;
      const below = joinPath(path, name);
      await output.tree.add({ fd, name }, stat, below);
      if (isDirectory(stat.mode)) await writeDirectory(output, { fd, name }, below);
    }
  } finally {
    closeFd(fd);
  }
}

/** A whiteout or an opaque mark; aufs' own files are passed over. */
async function writeMark(tar: TarWriter, at: Location, parent: ByteString): Promise<void> {
  const meaning = meaningOf(at.name);
  if (meaning.kind === "own") return;
  const stat = findStat(at.fd, at.name);
  if (stat === undefined) return;
  const path = joinPath(parent, meaning.kind === "opaque" ? opaqueName : at.name);
  if (meaning.kind === "wrong" || !isMark(stat))
    throw new EngineError(
      "invalid_argument",
      `${quoted(`/${path}`)} is no whiteout of aufs, though it is called like one`,
    );
  await tar.add({ path, type: "file", mode: 0o600 });
}

const isMark = ({ mode, size }: FileStat): boolean => isFile(mode) && size === 0;
