/**
 * COPY and ADD as a layer's tar, in a worker: entries for what is copied and for the directories that do not exist yet.
 * No container is needed, and nothing is written twice. Where the destination is, symlinks of the image decide; a
 * directory that exists there keeps its attributes, because no entry names it. Docker's rules for destinations.
 */
import { type ByteString, bytesOfText, byteText, cleanPath, entryPath, joinPath } from "../archive/bytes.ts";
import { decompress } from "../archive/decompress.ts";
import { type TarEntry, TarReader } from "../archive/read-tar.ts";
import { findStat, RootTree } from "../archive/root-tree.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { TreeWriter } from "../archive/write-tree.ts";
import { EngineError } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { closeFd } from "../host/sys.ts";
import { type Resolved, resolvePath } from "./resolve-path.ts";
import { contentOf, openSource, type Source, walk } from "./source-task.ts";

export type Copy = {
  readonly sourceRoot: string;
  readonly sources: readonly Source[];
  /** A view of the image so far; undefined for an empty one. */
  readonly imageRoot: string | undefined;
  /** Absolute. A trailing slash makes it a directory. */
  readonly destination: string;
  /** Undefined: root's, and an archive's own owners. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  /** Without `owner`: what is copied keeps its own, as from another image. */
  readonly keepOwners: boolean;
  /** `--chmod`; undefined keeps each entry's own. */
  readonly mode: number | undefined;
};

const directoryMode = 0o755;
/** The only attribute that Docker carries from a context into an image. */
const capability = (name: string): string | undefined => (name === "security.capability" ? name : undefined);

/** Writes the tar. Throws invalid_argument when the destination cannot take what is copied. */
export async function copyTarTask(copy: Copy, { write, signal }: TaskContext): Promise<void> {
  using source = new RootTree(copy.sourceRoot);
  using image = copy.imageRoot === undefined ? undefined : new RootTree(copy.imageRoot);
  const tar = new TarWriter(write);
  await new Copying(copy, { source, image, tar, signal }).run();
  await tar.finish();
}

type Parts = {
  readonly source: RootTree;
  readonly image: RootTree | undefined;
  readonly tar: TarWriter;
  readonly signal: AbortSignal;
};

class Copying {
  readonly #copy: Copy;
  readonly #parts: Parts;
  readonly #writer: TreeWriter;
  readonly #made = new Set<ByteString>();

  constructor(copy: Copy, parts: Parts) {
    this.#copy = copy;
    this.#parts = parts;
    const mode = copy.mode === undefined ? {} : { mode: copy.mode };
    const owner = copy.owner === undefined && copy.keepOwners ? {} : this.#owner;
    this.#writer = new TreeWriter(parts.tar, capability, { ...owner, ...mode });
  }

  /** Of directories that are made, and of what does not keep its own. */
  get #owner(): { readonly uid: number; readonly gid: number } {
    return this.#copy.owner ?? { uid: 0, gid: 0 };
  }

  async run(): Promise<void> {
    for (const source of this.#copy.sources) {
      this.#parts.signal.throwIfAborted();
      if (source.kind === "directory") await this.#directory(source);
      else if (source.kind === "archive") await this.#archive(source);
      else await this.#file(source);
    }
  }

  async #directory(source: Source): Promise<void> {
    const target = await this.#makeDirectory(this.#destination());
    for (const { directory, name, path, stat } of walk(this.#parts.source, source.directory)) {
      this.#parts.signal.throwIfAborted();
      refuseWhiteout(path);
      const fd = this.#parts.source.find(directory)?.fd;
      if (fd !== undefined) await this.#writer.add({ fd, name }, stat, joinPath(target, path));
    }
  }

  async #file(source: Source): Promise<void> {
    const found = this.#destination();
    const into = this.#copy.destination.endsWith("/") || found.kind === "directory" || this.#copy.sources.length > 1;
    const path = into ? joinPath(await this.#makeDirectory(found), source.base) : await this.#fileTarget(found);
    refuseWhiteout(path);
    const fd = this.#parts.source.find(source.directory)?.fd;
    const stat = fd === undefined ? undefined : findStat(fd, source.name);
    if (fd === undefined || stat === undefined)
      throw new EngineError("internal", `${byteText(source.name)} has gone while it was copied`);
    await this.#writer.add({ fd, name: source.name }, stat, path);
  }

  async #archive(source: Source): Promise<void> {
    const target = await this.#makeDirectory(this.#destination());
    const fd = openSource(this.#parts.source, source);
    const reader = new TarReader(decompress(contentOf(fd)));
    try {
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
        this.#parts.signal.throwIfAborted();
        await this.#unpack(entry, reader, target);
      }
    } finally {
      await reader.close();
      closeFd(fd);
    }
  }

  async #unpack(entry: TarEntry, reader: TarReader, target: ByteString): Promise<void> {
    const path = entryPath(entry.path);
    if (path === "") return;
    refuseWhiteout(path);
    const link = entry.type === "link" ? joinPath(target, entryPath(entry.link)) : entry.link;
    const { type, mode, uid, gid, size, major, minor, xattrs } = entry;
    const mtime = Number(entry.mtime / 1_000_000_000n);
    const { tar } = this.#parts;
    await tar.begin({
      type,
      mode,
      uid,
      gid,
      size,
      major,
      minor,
      xattrs,
      mtime,
      link,
      path: joinPath(target, path),
      ...this.#copy.owner,
    });
    if (type === "file")
      for (let data = await reader.read(); data !== undefined; data = await reader.read()) await tar.data(data);
    await tar.end();
  }

  #destination(): Resolved {
    const path = cleanPath(bytesOfText(this.#copy.destination)) ?? "";
    if (this.#parts.image !== undefined) return resolvePath(this.#parts.image, path);
    return path === "" ? { kind: "directory", path } : { kind: "missing", parent: "", rest: path.split("/") };
  }

  /** The real path of the destination as a directory; what is missing is made. */
  async #makeDirectory(found: Resolved): Promise<ByteString> {
    if (found.kind === "directory") return found.path;
    if (found.kind !== "missing") throw this.#noDirectory();
    return this.#make(found.parent, found.rest);
  }

  async #fileTarget(found: Resolved): Promise<ByteString> {
    if (found.kind === "file") return joinPath(found.parent, found.name);
    if (found.kind !== "missing") throw this.#noDirectory();
    const name = found.rest.at(-1) ?? "";
    return joinPath(await this.#make(found.parent, found.rest.slice(0, -1)), name);
  }

  async #make(parent: ByteString, names: readonly ByteString[]): Promise<ByteString> {
    let path = parent;
    for (const name of names) {
      path = joinPath(path, name);
      refuseWhiteout(name);
      if (this.#made.has(path)) continue;
      this.#made.add(path);
      const mtime = Math.floor(Date.now() / 1000);
      await this.#parts.tar.add({ path, type: "directory", mode: directoryMode, mtime, ...this.#owner });
    }
    return path;
  }

  #noDirectory(): EngineError {
    return new EngineError("invalid_argument", `failed to copy files: ${this.#copy.destination}: not a directory`);
  }
}

/** In a layer's tar such a name would remove a file instead of being one. */
function refuseWhiteout(path: ByteString): void {
  if (/(^|\/)\.wh\./.test(path))
    throw new EngineError("invalid_argument", `${byteText(path)}: a name that begins with .wh. cannot be in an image`);
}
