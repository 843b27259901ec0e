/**
 * `docker logs`: conmon's file read from where `tail` begins, and followed while the container runs. The file may be
 * started anew (`max-size`) at any time; what was read stays read. Memory is bounded by one block and one entry.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { EngineError, systemCode } from "../base/errors.ts";
import type { LogLine, LogOptions } from "./container.ts";
import { type Context, now } from "./context.ts";
import type { Entry } from "./entry.ts";
import { FileChanges } from "./file-changes.ts";
import { formatLogTime, type LogEntry, LogSplitter } from "./log-line.ts";
import { tailOffset } from "./log-tail.ts";

const blockSize = 64 * 1024;
const newline = Buffer.from("\n");

/** Throws unsupported for a container whose log nobody keeps. */
export async function* readLogs(context: Context, entry: Entry, options: LogOptions): AsyncGenerator<LogLine> {
  if (entry.record.hostConfig.LogConfig?.Type === "none")
    throw new EngineError("unsupported", "configured logging driver does not support reading");
  const show = new Presenter(options);
  for await (const log of entries(context, entry, options)) {
    const time = Number(log.time / 1_000_000n);
    if (options.until !== undefined && time > options.until) return;
    if (options.since !== undefined && time < options.since) continue;
    const line = show.line(log);
    if (line !== undefined) yield line;
  }
}

/** Puts entries together: a part has no newline, and only the beginning of a line has a time. */
class Presenter {
  readonly #options: LogOptions;
  readonly #open = { stdout: false, stderr: false };

  constructor(options: LogOptions) {
    this.#options = options;
  }

  line({ stream, time, ends, data }: LogEntry): LogLine | undefined {
    if (!this.#options[stream]) return undefined;
    const begins = !this.#open[stream];
    this.#open[stream] = !ends;
    const prefix = this.#options.timestamps && begins ? [Buffer.from(`${formatLogTime(time)} `)] : [];
    return { stream, data: Buffer.concat([...prefix, data, ...(ends ? [newline] : [])]) };
  }
}

async function* entries(context: Context, entry: Entry, options: LogOptions): AsyncGenerator<LogEntry> {
  await using log = await LogFile.open(entry.record.logPath, options.tail);
  const follow = options.follow && entry.isRunning;
  const signals = [context.closing, ...(options.signal === undefined ? [] : [options.signal])];
  await using changes = follow ? new FileChanges(entry.record.logPath, AbortSignal.any(signals)) : undefined;
  const splitter = new LogSplitter();
  for (;;) {
    options.signal?.throwIfAborted();
    // Asked before reading: what ended before the read has written everything that this read can miss.
    const more = follow && entry.isRunning && !context.closing.aborted;
    const block = await log.read();
    if (block === "renewed") splitter.reset();
    else if (block !== undefined) yield* splitter.push(block);
    else if (!more || changes === undefined) return;
    else if (options.until !== undefined && now() > options.until) return;
    else await changes.next();
  }
}

/** A log file that may be replaced or cut under our hands. */
class LogFile implements AsyncDisposable {
  readonly #path: string;
  #handle: FileHandle | undefined;
  #position = 0;

  private constructor(path: string) {
    this.#path = path;
  }

  static async open(path: string, tail: number | undefined): Promise<LogFile> {
    const file = new LogFile(path);
    await file.#renew();
    if (file.#handle !== undefined && tail !== undefined) file.#position = await tailOffset(file.#handle, tail);
    return file;
  }

  /** The next bytes; undefined at the end; `renewed` when a new file took the place of the one that was read to its end. */
  async read(): Promise<Uint8Array | "renewed" | undefined> {
    if (this.#handle === undefined) return (await this.#renew()) ? "renewed" : undefined;
    const { buffer, bytesRead } = await this.#handle.read(Buffer.allocUnsafe(blockSize), 0, blockSize, this.#position);
    this.#position += bytesRead;
    if (bytesRead > 0) return buffer.subarray(0, bytesRead);
    return (await this.#wasReplaced()) && (await this.#renew()) ? "renewed" : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
  }

  async #wasReplaced(): Promise<boolean> {
    const current = await this.#handle?.stat();
    if (current !== undefined && current.size < this.#position) return true;
    try {
      return (await stat(this.#path)).ino !== current?.ino;
    } catch (error) {
      if (systemCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  /** False when there is no file yet. */
  async #renew(): Promise<boolean> {
    try {
      const handle = await open(this.#path, "r");
      await this.#handle?.close();
      this.#handle = handle;
      this.#position = 0;
      return true;
    } catch (error) {
      if (systemCode(error) === "ENOENT") return false;
      throw error;
    }
  }
}
