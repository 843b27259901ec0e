/** What passes between the event loop and the metadata writer thread. Transaction 0 is the opening itself. */
import type { ErrorCode } from "../base/errors.ts";
import type { Schema, Statement } from "./database.ts";

export type WriterData = { readonly path: string; readonly schemas: readonly Schema[] };

export type Transaction = {
  readonly id: number;
  readonly statements: readonly Statement[];
  readonly durable: boolean;
};

/** Towards the writer. `close` comes last. */
export type Request = Transaction | "close";

export type Failure = { readonly code: ErrorCode; readonly message: string; readonly cause?: string };

/** Towards the loop, a batch in one message. Without `failure` the transaction is as durable as it was to be. */
export type Answer = { readonly id: number; readonly failure?: Failure };

/** Pages of 4 KiB in the WAL before it is folded into the database, and the size its file is cut back to. */
export const walPages = 1000;
export const walBytes = walPages * 4096;
