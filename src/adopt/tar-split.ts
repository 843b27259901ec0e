/**
 * Makes a layer's tar again from what dockerd keeps of it: `tar-split.json.gz` (github.com/vbatts/tar-split), one JSON
 * entry a line with the raw bytes of headers and padding or the name and size of a file, and the files themselves. That
 * the result is the tar is not believed here: whoever takes it compares the digest.
 *
 *   {"type":2,"payload":"<base64>"}             bytes as they stand in the tar
 *   {"type":1,"name":"a/b","size":5,...}        the content of a file stands here; `name_raw` for names that are not UTF-8
 */
import { createReadStream, fstatSync, readSync } from "node:fs";
import { createGunzip } from "node:zlib";
import * as v from "valibot";
import { EngineError, isError, systemCode } from "../base/errors.ts";
import { decodeShape, integer } from "../base/shape.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE } from "../host/sys.ts";

const pieceSize = 256 * 1024;
/** An entry may hold all that follows a tar's end. */
const longestLine = 256 * 1024 * 1024;

const entryShape = v.object({
  type: v.picklist([1, 2]),
  name: v.nullish(v.string(), ""),
  name_raw: v.nullish(v.string()),
  size: v.nullish(integer, 0),
  payload: v.nullish(v.string()),
});

type Entry = v.InferOutput<typeof entryShape>;

/** The tar. `files` is the folder where the layer's files stand under their names in the tar. Throws data_loss for what cannot be made again. */
export async function* assembleTar(
  split: string,
  files: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const root = openat2(AT_FDCWD, files, { flags: O.RDONLY | O.DIRECTORY });
  try {
    yield* inPieces(contents(split, root, signal));
  } finally {
    closeFd(root);
  }
}

async function* contents(split: string, root: number, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
  for await (const line of lines(split)) {
    signal?.throwIfAborted();
    const entry = parseEntry(line);
    if (entry.type === 2) yield Buffer.from(entry.payload ?? "", "base64");
    else if (entry.size > 0) yield* fileContent(root, nameOf(entry), entry.size);
  }
}

function parseEntry(line: string): Entry {
  let document: unknown;
  try {
    document = JSON.parse(line);
  } catch (cause) {
    throw lost("its tar-split.json.gz is damaged: a line is not JSON", cause);
  }
  const parsed = decodeShape(entryShape, document);
  if (parsed.ok) return parsed.value;
  throw lost(`its tar-split.json.gz is damaged: ${parsed.path}: ${parsed.problem}`);
}

const nameOf = ({ name, name_raw }: Entry): Buffer => Buffer.from(name_raw ?? name, name_raw ? "base64" : "utf8");

async function* lines(path: string): AsyncGenerator<string, void, void> {
  const source = createReadStream(path);
  const text = createGunzip();
  source.on("error", (error) => text.destroy(error));
  source.pipe(text);
  let parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of text as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString();
        start = end + 1;
        parts = [];
        length = 0;
      }
      length += chunk.length - start;
      if (length > longestLine) throw lost("its tar-split.json.gz has a line without end");
      parts.push(chunk.subarray(start));
    }
    if (length > 0) yield Buffer.concat(parts).toString();
  } catch (error) {
    throw readFailure(error);
  } finally {
    source.destroy();
  }
}

function readFailure(error: unknown): unknown {
  const code = systemCode(error);
  if (code === "ENOENT")
    return lost("its tar-split.json.gz is missing, without which its tar cannot be made again", error);
  if (isError(error, "data_loss") || code === undefined) return error;
  return lost(`its tar-split.json.gz cannot be read (${code})`, error);
}

function* fileContent(root: number, name: Buffer, size: number): Generator<Uint8Array, void, void> {
  const fd = openFile(root, name);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size !== size) throw lost(`${shown(name)} is no file of ${size} bytes any more`);
    for (let left = size; left > 0; ) {
      const piece = Buffer.allocUnsafe(Math.min(left, pieceSize));
      const length = readSync(fd, piece, 0, piece.length, null);
      if (length === 0) throw lost(`${shown(name)} ends early`);
      left -= length;
      yield piece.subarray(0, length);
    }
  } finally {
    closeFd(fd);
  }
}

/** A symlink on the way is one of the layer: dockerd wrote through it too. Nothing leads out of the folder. */
function openFile(root: number, name: Buffer): number {
  try {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;
    return openat2(root, name, { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK, resolve });
  } catch (error) {
    throw lost(`${shown(name)} cannot be opened (${systemCode(error) ?? "unknown error"})`, error);
  }
}

const shown = (name: Buffer): string => JSON.stringify(name.toString().slice(0, 200));

const lost = (why: string, cause?: unknown): EngineError => new EngineError("data_loss", why, { cause });

/** Joins small pieces; each buffer is the receiver's. */
async function* inPieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  let buffer = Buffer.allocUnsafeSlow(pieceSize);
  let used = 0;
  for await (const piece of source)
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + pieceSize - used);
      buffer.set(part, used);
      used += part.length;
      at += part.length;
      if (used < pieceSize) continue;
      yield buffer;
      buffer = Buffer.allocUnsafeSlow(pieceSize);
      used = 0;
    }
  if (used > 0) yield buffer.subarray(0, used);
}
