/**
 * The contract of the metadata store: SQLite in WAL mode with full sync, written by one worker thread with group
 * commit, read on a read-only connection of the event loop. What `transact` acknowledges survives a power cut, unless
 * its caller asks for less: a transaction that is not durable survives the end of the process, and a power cut from the
 * next durable one on. Order is kept, so a power cut takes the last ones only.
 *
 * Each store (layer, image, volume, container...) owns its tables: it hands in a {@link Schema} when the engine opens.
 */

export type SqlValue = string | number | bigint | null | Uint8Array;

/** One statement of a transaction. With `changes`, the transaction is undone unless exactly that many rows changed. */
export type Statement = {
  readonly sql: string;
  readonly parameters?: readonly SqlValue[];
  readonly changes?: number;
};

export type Row = Readonly<Record<string, SqlValue>>;

/** Steps that bring a store's tables from nothing to now; step N is applied once, in order, in a transaction. */
export type Schema = { readonly store: string; readonly steps: readonly string[] };

export type TransactOptions = {
  /**
   * False where a power cut may undo it: the record of an intent (its data is then swept as nobody's), or the last word
   * on what start-up would remove again. It saves a sync.
   */
  readonly durable?: boolean;
};

export interface Database extends AsyncDisposable {
  /** All statements or none. Rejects with conflict when a `changes` expectation or a UNIQUE constraint fails. Durable when it resolves, unless `durable` is false. */
  transact(statements: readonly Statement[], options?: TransactOptions): Promise<void>;
  /** Every row of a query on the read-only connection; sees all that `transact` has acknowledged. */
  all(sql: string, ...parameters: readonly SqlValue[]): readonly Row[];
  get(sql: string, ...parameters: readonly SqlValue[]): Row | undefined;
}
