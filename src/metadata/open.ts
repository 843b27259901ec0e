/**
 * Opens the metadata store: a read-only connection on this thread, and the one writer thread (`writer.ts`).
 *
 * Promises: what `transact` acknowledges is durable (see database.ts for less) and visible to the next `all` or `get`.
 * Transactions are applied in the order they were handed in; those that wait share one commit. An open database
 * without work does not keep the process alive; disposing waits for what is queued, folds the WAL in and closes.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { Worker } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import { reserveFor } from "../host/reserve.ts";
import type { Database, Row, Schema, SqlValue, Statement, TransactOptions } from "./database.ts";
import { failureOf } from "./failure.ts";
import { type Answer, type Failure, type WriterData, walBytes } from "./messages.ts";
import { StatementCache } from "./statement-cache.ts";

type Waiting = { readonly resolve: () => void; readonly reject: (error: EngineError) => void };

/** Heap bounds of the writer (MiB): it holds a batch of statements, never a result set. */
const writerLimits = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

/** Milliseconds a read may wait for another process that holds the file (recovery, a backup tool). */
const readTimeout = 1000;

/**
 * Opens (or creates) the database at `path` and brings every schema up to date. Throws conflict when the file was
 * written by a newer version of the engine, or is not the engine's at all.
 */
export async function openDatabase(path: string, schemas: readonly Schema[]): Promise<Database> {
  await using stack = new AsyncDisposableStack();
  const writer = await Writer.start({ path, schemas });
  stack.defer(() => writer.close());
  const reader = new DatabaseSync(path, { readOnly: true, timeout: readTimeout });
  const database = stack.use(new OpenDatabase(path, writer, reader));
  // A read opens the journal. What removes things must find room in it when the disk is full.
  database.get("SELECT count(*) FROM sqlite_schema");
  await reserveFor(`${path}-wal`, walBytes);
  stack.move();
  return database;
}

class OpenDatabase implements Database {
  readonly #path: string;
  readonly #writer: Writer;
  readonly #reader: DatabaseSync;
  readonly #statements: StatementCache;
  #closing: Promise<void> | undefined;

  constructor(path: string, writer: Writer, reader: DatabaseSync) {
    this.#path = path;
    this.#writer = writer;
    this.#reader = reader;
    this.#statements = new StatementCache(reader);
  }

  async transact(statements: readonly Statement[], { durable = true }: TransactOptions = {}): Promise<void> {
    if (statements.length > 0) await this.#writer.transact(statements, durable);
  }

  all(sql: string, ...parameters: readonly SqlValue[]): readonly Row[] {
    return this.#read(sql, (statement) => statement.all(...parameters) as Row[]);
  }

  get(sql: string, ...parameters: readonly SqlValue[]): Row | undefined {
    return this.#read(sql, (statement) => statement.get(...parameters) as Row | undefined);
  }

  #read<T>(sql: string, read: (statement: StatementSync) => T): T {
    if (this.#closing !== undefined) throw closed();
    try {
      return read(this.#statements.get(sql));
    } catch (error) {
      throw errorOf(failureOf(error, this.#path));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    // The reader goes first: the writer is then the last connection, and its close folds the WAL into the file.
    this.#statements.clear();
    this.#reader.close();
    await this.#writer.close();
  }
}

/** The near side of the writer thread: numbers transactions and settles them as answers come. */
class Writer {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<void>;
  #next = 1;
  #stopped: EngineError | undefined;

  /** Resolves once the database is open and migrated. */
  static async start(data: WriterData): Promise<Writer> {
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./writer.${extension}`, import.meta.url), {
      workerData: data,
      resourceLimits: writerLimits,
      execArgv: [],
      name: "metadata",
    });
    const writer = new Writer(worker);
    await new Promise<void>((resolve, reject) => {
      writer.#waiting.set(0, { resolve, reject });
    });
    worker.unref();
    return writer;
  }

  constructor(worker: Worker) {
    this.#worker = worker;
    this.#ended = new Promise((resolve) => {
      worker.once("exit", () => {
        this.#stop(new EngineError("unavailable", "the metadata writer has ended; restart the engine"));
        resolve();
      });
    });
    worker.on("message", (answers: readonly Answer[]) => this.#settle(answers));
    worker.on("error", (cause) =>
      this.#stop(new EngineError("internal", "the metadata writer failed; restart the engine", { cause })),
    );
  }

  transact(statements: readonly Statement[], durable: boolean): Promise<void> {
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#worker.postMessage({ id, statements, durable });
      if (this.#waiting.size === 0) this.#worker.ref();
      this.#waiting.set(id, { resolve, reject });
    });
  }

  /** Queued transactions are carried out first. Idempotent. */
  async close(): Promise<void> {
    this.#stopped ??= closed();
    this.#worker.ref();
    this.#worker.postMessage("close");
    await this.#ended;
  }

  #settle(answers: readonly Answer[]): void {
    for (const { id, failure } of answers) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (failure === undefined) waiting?.resolve();
      else waiting?.reject(errorOf(failure));
    }
    if (this.#waiting.size === 0 && this.#stopped === undefined) this.#worker.unref();
  }

  #stop(error: EngineError): void {
    this.#stopped ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

const closed = (): EngineError => new EngineError("unavailable", "the metadata database is closed");

const errorOf = (failure: Failure): EngineError =>
  new EngineError(
    failure.code,
    failure.message,
    failure.cause === undefined ? {} : { cause: new Error(failure.cause) },
  );
