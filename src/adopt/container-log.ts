/**
 * A container's log: dockerd's `<id>-json.log` and its older parts (`.1`, `.2.gz`, ...) become the one file that conmon
 * would have written (container/log-line.ts). A line that cannot be read is left out, as `docker logs` does.
 */
import { createReadStream, type ReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import * as v from "valibot";
import { looseObject } from "../base/shape.ts";
import { parseLogTime } from "../container/log-line.ts";
import { namesIn } from "./read-files.ts";

const entryShape = looseObject({ log: v.string(), stream: v.picklist(["stdout", "stderr"]), time: v.string() });
/** dockerd cuts lines at 16 KiB; escapes make them six times as long at most. */
const longestLine = 1024 * 1024;
const blockSize = 256 * 1024;

/** Writes the log of the container whose dockerd files stand in `folder` to `path`, and syncs it. False when there is none. */
export async function convertLog(folder: string, id: string, path: string): Promise<boolean> {
  const parts = await logParts(folder, id);
  if (parts.length === 0) return false;
  await using file = await open(path, "wx", 0o600);
  const writer = new BlockWriter(file);
  for (const part of parts) for await (const line of jsonLines(join(folder, part))) await writer.add(convertLine(line));
  await writer.flush();
  await file.sync();
  return true;
}

/** Oldest first. */
async function logParts(folder: string, id: string): Promise<readonly string[]> {
  const base = `${id}-json.log`;
  const age = (name: string): number => Number(/\.(\d+)(?:\.gz)?$/.exec(name.slice(base.length))?.[1] ?? 0);
  const mine = (await namesIn(folder)).filter(
    (name) => name.startsWith(base) && /^(\.\d+(\.gz)?)?$/.test(name.slice(base.length)),
  );
  return mine.sort((a, b) => age(b) - age(a));
}

async function* jsonLines(path: string): AsyncGenerator<string, void, void> {
  const source = createReadStream(path);
  const unpacked = path.endsWith(".gz") ? unpack(source) : source;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of unpacked as AsyncIterable<Buffer>) {
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, start)) {
      yield data.toString("utf8", start, end);
      start = end + 1;
    }
    rest = data.length - start > longestLine ? Buffer.alloc(0) : data.subarray(start);
  }
  if (rest.length > 0) yield rest.toString();
}

function unpack(source: ReadStream): AsyncIterable<Buffer> {
  const text = createGunzip();
  source.on("error", (error) => text.destroy(error));
  return source.pipe(text);
}

/** The same in conmon's words; "" for what is no entry. */
export function convertLine(line: string): string {
  let document: unknown;
  try {
    document = JSON.parse(line);
  } catch {
    return "";
  }
  const entry = v.safeParse(entryShape, document);
  if (!entry.success || parseLogTime(entry.output.time) === undefined) return "";
  const { log, stream, time } = entry.output;
  const lines = log.split("\n");
  const last = lines.pop() ?? "";
  const whole = lines.map((text) => `${time} ${stream} F ${text}\n`).join("");
  return last === "" ? whole : `${whole}${time} ${stream} P ${last}\n`;
}

class BlockWriter {
  readonly #file: FileHandle;
  #parts: string[] = [];
  #length = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async add(text: string): Promise<void> {
    this.#parts.push(text);
    this.#length += text.length;
    if (this.#length >= blockSize) await this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#parts.join("");
    this.#parts = [];
    this.#length = 0;
    if (text !== "") await this.#file.appendFile(text);
  }
}
