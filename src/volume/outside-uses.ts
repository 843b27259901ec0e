/**
 * Uses of volumes by engines outside this process (a dockerd, podman), which name each use by an id of their own. An id
 * may come more than once (`docker cp` on a running container mounts with the container's id again, moby#37314): the
 * calls are counted, and the last unmount ends the use.
 *
 * The counts are rows, so that they outlive the process; they belong to one boot, since no container outlives that.
 */
import type { ProcessIdentity } from "../host/kernel-process.ts";
import type { Database, Row, Schema } from "../metadata/database.ts";

export const outsideUseSchema: Schema = {
  store: "outside-use",
  steps: [
    `CREATE TABLE outside_use (
       volume TEXT NOT NULL,
       id TEXT NOT NULL,
       count INTEGER NOT NULL CHECK (count > 0),
       boot TEXT NOT NULL,
       latest INTEGER NOT NULL,
       pid INTEGER,
       pid_start INTEGER,
       PRIMARY KEY (volume, id)
     ) STRICT, WITHOUT ROWID;`,
  ],
};

export type OutsideUse = {
  readonly volume: string;
  readonly id: string;
  readonly count: number;
  /** Milliseconds since the epoch of the latest mount. */
  readonly latest: number;
  /** The process that asked for it latest, where it is known. */
  readonly asker: ProcessIdentity | undefined;
};

export type NewUse = Pick<OutsideUse, "volume" | "id" | "asker"> & { readonly anew: boolean };

const columns = "volume, id, count, latest, pid, pid_start";

/** A power cut ends the uses anyhow. */
const lazily = { durable: false };

export class OutsideUses {
  readonly #database: Database;
  readonly #boot: string;

  constructor(database: Database, boot: string) {
    this.#database = database;
    this.#boot = boot;
  }

  /** Drops what another boot left. */
  async open(): Promise<void> {
    await this.#database.transact(
      [{ sql: "DELETE FROM outside_use WHERE boot <> ?", parameters: [this.#boot] }],
      lazily,
    );
  }

  all(): readonly OutsideUse[] {
    return this.#database.all(`SELECT ${columns} FROM outside_use ORDER BY volume, id`).map(decode);
  }

  of(volume: string): readonly OutsideUse[] {
    return this.#database.all(`SELECT ${columns} FROM outside_use WHERE volume = ? ORDER BY id`, volume).map(decode);
  }

  /** Counts one more, or begins `anew` at one. */
  async add({ volume, id, asker, anew }: NewUse): Promise<void> {
    const count = anew ? "1" : "count + 1";
    const sql = `INSERT INTO outside_use (volume, id, count, boot, latest, pid, pid_start) VALUES (?, ?, 1, ?, ?, ?, ?)
      ON CONFLICT (volume, id) DO UPDATE
        SET count = ${count}, latest = excluded.latest, pid = excluded.pid, pid_start = excluded.pid_start`;
    const process = [asker?.pid ?? null, asker?.startTime ?? null];
    await this.#database.transact([{ sql, parameters: [volume, id, this.#boot, Date.now(), ...process] }], lazily);
  }

  /** True when no count of this id is left. */
  async take(volume: string, id: string): Promise<boolean> {
    const left = this.of(volume).find((use) => use.id === id)?.count ?? 0;
    const parameters = [volume, id];
    const sql =
      left > 1
        ? "UPDATE outside_use SET count = count - 1 WHERE volume = ? AND id = ?"
        : "DELETE FROM outside_use WHERE volume = ? AND id = ?";
    await this.#database.transact([{ sql, parameters }], lazily);
    return left <= 1;
  }

  async forget(volume: string, ids: readonly string[]): Promise<void> {
    const sql = "DELETE FROM outside_use WHERE volume = ? AND id = ?";
    await this.#database.transact(
      ids.map((id) => ({ sql, parameters: [volume, id] })),
      lazily,
    );
  }
}

const decode = (row: Row): OutsideUse => ({
  volume: String(row.volume),
  id: String(row.id),
  count: Number(row.count),
  latest: Number(row.latest),
  asker: row.pid === null ? undefined : { pid: Number(row.pid), startTime: Number(row.pid_start) },
});
