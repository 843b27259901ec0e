/** Prepared statements of one connection by their text, the least recently used dropped first. */
import type { DatabaseSync, StatementSync } from "node:sqlite";

const capacity = 256;

export class StatementCache {
  readonly #connection: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(connection: DatabaseSync) {
    this.#connection = connection;
  }

  get(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    const statement = known ?? this.#connection.prepare(sql);
    this.#statements.delete(sql);
    this.#statements.set(sql, statement);
    if (this.#statements.size > capacity) {
      for (const oldest of this.#statements.keys()) {
        this.#statements.delete(oldest);
        break;
      }
    }
    return statement;
  }

  clear(): void {
    this.#statements.clear();
  }
}
