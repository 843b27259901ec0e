/**
 * The writer thread: the only connection that changes the database.
 *
 * Group commit: all transactions that arrived while the last commit was being synced run between one BEGIN and one
 * COMMIT (one fsync), each in its own SAVEPOINT, so that a failing one is undone alone. When the commit itself fails,
 * the transactions of the batch are tried one by one, so that an innocent one does not pay for another.
 *
 * A batch without a durable transaction is written and not synced (sqlite.org/pragma.html#pragma_synchronous); the sync
 * of a later batch covers it, since both stand in one file, the WAL, and what leaves it is synced before.
 */
import { closeSync, fsyncSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import type { Statement } from "./database.ts";
import { failureOf } from "./failure.ts";
import { type Answer, type Request, type Transaction, type WriterData, walBytes, walPages } from "./messages.ts";
import { migrate } from "./migrate.ts";
import { StatementCache } from "./statement-cache.ts";

/** Transactions in one commit at most: bounds how long the first of a flood waits. */
const batchLimit = 512;

function open(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: 10_000, enableForeignKeyConstraints: true });
  database.exec(
    `PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = ${walPages}; PRAGMA journal_size_limit = ${walBytes}; PRAGMA temp_store = MEMORY`,
  );
  return database;
}

/** SQLite syncs the directory for its journals, not for the database's own name. */
function syncName(path: string): void {
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

class BatchWriter {
  readonly #database: DatabaseSync;
  readonly #statements: StatementCache;
  readonly #path: string;
  #syncs = true;

  constructor(database: DatabaseSync, path: string) {
    this.#database = database;
    this.#statements = new StatementCache(database);
    this.#path = path;
  }

  write(batch: readonly Transaction[]): Answer[] {
    try {
      return this.#commit(batch);
    } catch (error) {
      this.#rollBack();
      if (batch.length > 1) return batch.flatMap((transaction) => this.write([transaction]));
      return batch.map(({ id }) => ({ id, failure: failureOf(error, this.#path) }));
    }
  }

  #commit(batch: readonly Transaction[]): Answer[] {
    this.#rollBack();
    this.#syncCommits(batch.some(({ durable }) => durable));
    this.#database.exec("BEGIN IMMEDIATE");
    const answers = batch.map((transaction) => this.#apply(transaction));
    this.#database.exec("COMMIT");
    return answers;
  }

  /** One that cannot be undone now stays open, and is undone before the next batch. */
  #rollBack(): void {
    try {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
    } catch {
      // The failure that led here is the one to tell.
    }
  }

  /** Only between transactions. */
  #syncCommits(wanted: boolean): void {
    if (wanted === this.#syncs) return;
    this.#database.exec(`PRAGMA synchronous = ${wanted ? "FULL" : "NORMAL"}`);
    this.#syncs = wanted;
  }

  #apply({ id, statements }: Transaction): Answer {
    this.#database.exec("SAVEPOINT one");
    try {
      for (const statement of statements) this.#run(statement);
    } catch (error) {
      // A full disk or an I/O error may have undone the whole batch: then it is the batch that failed.
      if (!this.#database.isTransaction) throw error;
      this.#database.exec("ROLLBACK TO one; RELEASE one");
      return { id, failure: failureOf(error, this.#path) };
    }
    this.#database.exec("RELEASE one");
    return { id };
  }

  #run({ sql, parameters = [], changes }: Statement): void {
    const result = this.#statements.get(sql).run(...parameters);
    if (changes !== undefined && Number(result.changes) !== changes)
      throw new EngineError("conflict", `metadata: ${result.changes} rows changed, expected ${changes}: ${sql}`);
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }
}

/** All that waits, in order, up to the batch limit. */
function take(port: MessagePort, first: Request): Request[] {
  const requests = [first];
  while (requests.length < batchLimit) {
    const next = receiveMessageOnPort(port);
    if (next === undefined) break;
    requests.push(next.message as Request);
  }
  return requests;
}

function serve(port: MessagePort, writer: BatchWriter): void {
  port.on("message", (first: Request) => {
    const requests = take(port, first);
    const batch = requests.filter((request) => request !== "close");
    if (batch.length > 0) port.postMessage(writer.write(batch));
    if (batch.length === requests.length) return;
    writer.close();
    port.close();
  });
}

function start(port: MessagePort, { path, schemas }: WriterData): void {
  let database: DatabaseSync | undefined;
  try {
    database = open(path);
    migrate(database, path, schemas);
    syncName(path);
    serve(port, new BatchWriter(database, path));
    port.postMessage([{ id: 0 }]);
  } catch (error) {
    database?.close();
    port.postMessage([{ id: 0, failure: failureOf(error, path) }]);
    port.close();
  }
}

if (parentPort !== null) start(parentPort, workerData as WriterData);
