/**
 * Gives the plain bytes of a stream that may be compressed, known by its first bytes: gzip and zstd in this process,
 * bzip2 and xz by the host's own programs, by absolute path, as nobody, and always before anything of an image or a
 * container is opened. What starts otherwise is plain. Memory is bounded whatever the ratio: the reader's pace is kept.
 * Garbage after a known start is invalid_argument; a missing program is unsupported.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { EngineError, errorMessage } from "../base/errors.ts";

const longestMagic = 6;
const chunkSize = 256 * 1024;

type Format = "gzip" | "zstd" | "bzip2" | "xz" | "plain";

function formatOf(start: Buffer): Format {
  const hex = start.toString("hex", 0, longestMagic);
  if (hex.startsWith("1f8b08")) return "gzip";
  if (hex.startsWith("28b52ffd") || /^5[0-9a-f]2a4d18/.test(hex)) return "zstd";
  if (/^425a68(3[1-9])/.test(hex)) return "bzip2";
  return hex === "fd377a585a00" ? "xz" : "plain";
}

/** The uncompressed bytes of `input`. */
export async function* decompress(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const iterator = input[Symbol.asyncIterator]();
  try {
    const first: Uint8Array[] = [];
    for (let length = 0; length < longestMagic; ) {
      const next = await iterator.next();
      if (next.done === true) break;
      // the source may use its memory again for the next
      first.push(Buffer.from(next.value));
      length += next.value.length;
    }
    const source = joined(first, iterator);
    const format = formatOf(Buffer.concat(first).subarray(0, longestMagic));
    if (format === "plain") yield* source;
    else if (format === "gzip") yield* through(createGunzip({ chunkSize }), source, format);
    else if (format === "zstd") yield* through(createZstdDecompress({ chunkSize }), source, format);
    else yield* byProgram(format, source);
  } finally {
    await iterator.return?.();
  }
}

async function* joined(first: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* first;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

/** Keeps errors of the source apart from those of the data. */
class Feed {
  failure: unknown;
  failed = false;
  readonly readable: Readable;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.readable = Readable.from(this.#watch(source), { objectMode: true, highWaterMark: 2 });
  }

  async *#watch(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      // a copy: streams hold more than one chunk, whose memory the source may use again
      for await (const chunk of source) if (chunk.length > 0) yield Buffer.from(chunk);
    } catch (error) {
      this.failure = error;
      this.failed = true;
      throw error;
    }
  }
}

async function* through(
  transform: Transform,
  source: AsyncIterable<Uint8Array>,
  format: Format,
): AsyncGenerator<Uint8Array> {
  const feed = new Feed(source);
  feed.readable.on("error", (error) => transform.destroy(error));
  feed.readable.pipe(transform);
  try {
    for await (const chunk of transform) yield chunk;
  } catch (error) {
    throw feed.failed ? feed.failure : broken(format, errorMessage(error));
  } finally {
    feed.readable.destroy();
    transform.destroy();
  }
}

const broken = (format: Format, why: string): EngineError =>
  new EngineError("invalid_argument", `the ${format} data is broken: ${why}`);

const programs = {
  xz: { paths: ["/usr/bin/xz", "/bin/xz"], args: ["-dc", "--memlimit-decompress=256MiB"], package: "xz-utils" },
  bzip2: { paths: ["/bin/bzip2", "/usr/bin/bzip2"], args: ["-dc"], package: "bzip2" },
} as const;

const nobody = 65534;

async function* byProgram(format: "xz" | "bzip2", source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const program = programs[format];
  const path = program.paths.find((candidate) => existsSync(candidate));
  if (path === undefined)
    throw new EngineError("unsupported", `${format} data: this host has no ${format}; install ${program.package}`);
  const isRoot = process.getuid?.() === 0;
  const child = spawn(path, program.args, {
    cwd: "/",
    env: {},
    stdio: ["pipe", "pipe", "pipe"],
    ...(isRoot ? { uid: nobody, gid: nobody } : {}),
  });
  yield* outputOf(child, source, format);
}

async function* outputOf(
  child: ChildProcess & { readonly stdin: NodeJS.WritableStream; readonly stdout: Readable; readonly stderr: Readable },
  source: AsyncIterable<Uint8Array>,
  format: Format,
): AsyncGenerator<Uint8Array> {
  let complaint = "";
  child.stderr.on("data", (text) => {
    complaint = (complaint + String(text)).slice(0, 500);
  });
  const ended = new Promise<{ readonly code: number | null; readonly error?: Error }>((resolve) => {
    child.on("error", (error) => resolve({ code: null, error }));
    child.on("close", (code) => resolve({ code }));
  });
  const feed = new Feed(source);
  feed.readable.on("error", () => child.kill("SIGKILL"));
  // A program that gives up closes its input; its exit code says why.
  child.stdin.on("error", () => feed.readable.destroy());
  feed.readable.pipe(child.stdin);
  try {
    for await (const chunk of child.stdout) yield chunk;
    const { code, error } = await ended;
    if (feed.failed) throw feed.failure;
    if (error !== undefined) throw new EngineError("internal", `cannot run ${format}`, { cause: error });
    if (code !== 0) throw broken(format, complaint.trim() || `exit code ${code}`);
  } finally {
    feed.readable.destroy();
    child.kill("SIGKILL");
    child.stdout.destroy();
  }
}
