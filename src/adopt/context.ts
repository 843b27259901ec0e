/** What the parts of an adoption share, and how each object's turn is told. */
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import type { Pool } from "../host/pool.ts";
import type { GraphReader } from "./graph.ts";
import type { LayerDb } from "./layer-db.ts";
import type { Item, Tell } from "./report.ts";
import type { Target } from "./target.ts";

export type Adoption = {
  /** A read-only view of the source's data root: all that is copied is read through it. */
  readonly view: string;
  /** The source's storage driver. */
  readonly driver: string;
  readonly graph: GraphReader;
  readonly layerDb: LayerDb;
  readonly target: Target;
  readonly pool: Pool;
  readonly tell: Tell;
  readonly signal: AbortSignal;
  /** What concerns no single object. */
  readonly report: (problem: string) => void;
};

/** How one object ended. */
export type Ending = Pick<Item, "outcome" | "bytes"> & { readonly notes?: readonly string[] };

/**
 * Takes one object's turn. What goes wrong with it is its own affair, and the next one's turn comes; only a full disk
 * and the user's own wish end everything.
 */
export async function turn(
  { tell, signal }: Adoption,
  about: Pick<Item, "kind" | "name" | "id">,
  work: () => Promise<Ending>,
): Promise<Item> {
  signal.throwIfAborted();
  tell({ event: "begin", kind: about.kind, name: about.name });
  const item = { ...about, ...(await ending(work, signal)) };
  tell({ event: "end", item });
  return item;
}

async function ending(work: () => Promise<Ending>, signal: AbortSignal): Promise<Omit<Item, "kind" | "name" | "id">> {
  try {
    const { notes = [], ...end } = await work();
    return { ...end, ...(notes.length === 0 ? {} : { notes }) };
  } catch (error) {
    signal.throwIfAborted();
    if (errorCode(error) === "no_space") throw error;
    return { outcome: "skipped", bytes: 0, reason: errorMessage(error) };
  }
}

/** To be thrown by an object's turn. */
export const because = (reason: string): EngineError => new EngineError("unsupported", reason);

/** Passes chunks on and tells their size. */
export async function* counted(chunks: AsyncIterable<Uint8Array>, tell: Tell): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of chunks) {
    tell({ event: "bytes", count: chunk.length });
    yield chunk;
  }
}
