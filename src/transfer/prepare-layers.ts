/**
 * Unpacks the layers of an archived image side by side, where the storage driver can do it before the layers below are
 * there (docs/decisions/004). An archive is one stream, so a layer that is not large is put aside first, and the next
 * one can be read while it is unpacked; a large one goes straight through.
 */
import { decompress } from "../archive/decompress.ts";
import { chainIdsOf, type DiffId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { PreparedLayer } from "../layer/store.ts";
import type { Load } from "./load.ts";
import type { ArchivedImage } from "./load-manifest.ts";
import { countedBytes } from "./progress.ts";

/** Layers that are unpacked at once; the worker threads share the processors among them. */
const atOnce = 4;
/** Bytes of a member that is put aside. */
const largestAside = 64 * 1024 * 1024;

/** What is disposed gives back every layer that nobody registered meanwhile. */
export async function prepareLayers(
  load: Load,
  image: ArchivedImage,
  diffIds: readonly DiffId[],
): Promise<AsyncDisposable> {
  await using prepared = new AsyncDisposableStack();
  if (load.layers.preparesLayers) {
    const work = new Preparation(load, prepared);
    try {
      for (const { index, diffId, name } of missing(load, image, diffIds)) await work.add(index, diffId, name);
    } finally {
      await work.settled();
    }
    work.throwFirst();
  }
  return prepared.move();
}

/** Layers of which the store has no unpacked tar, each tar once. */
function* missing({ layers }: Load, image: ArchivedImage, diffIds: readonly DiffId[]) {
  const chain = chainIdsOf(diffIds);
  const seen = new Set<DiffId>();
  for (const [index, diffId] of diffIds.entries()) {
    const chainId = chain[index];
    const isHere = seen.has(diffId) || layers.hasDiff(diffId) || (chainId !== undefined && layers.find(chainId));
    seen.add(diffId);
    if (!isHere) yield { index, diffId, name: image.layers[index] ?? "" };
  }
}

class Preparation {
  readonly #load: Load;
  readonly #prepared: AsyncDisposableStack;
  readonly #running = new Set<Promise<void>>();
  readonly #failures: { readonly index: number; readonly error: unknown }[] = [];

  constructor(load: Load, prepared: AsyncDisposableStack) {
    this.#load = load;
    this.#prepared = prepared;
  }

  /** Starts one, and waits where it may not run beside the others. */
  async add(index: number, diffId: DiffId, name: string): Promise<void> {
    if (this.#failures.length > 0) return;
    while (this.#running.size >= atOnce) await Promise.race(this.#running);
    const aside = await this.#load.members.setAside(name, largestAside);
    const running = this.#prepare(index, diffId, name).catch((error: unknown) => {
      this.#failures.push({ index, error });
    });
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
    if (!aside) await running;
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** The failure of the lowest layer. */
  throwFirst(): void {
    const [first] = this.#failures.toSorted((a, b) => a.index - b.index);
    if (first !== undefined) throw first.error;
  }

  async #prepare(index: number, diffId: DiffId, name: string): Promise<void> {
    const { layers, members, progress, signal } = this.#load;
    const bytes = countedBytes(decompress(members.open(name)), diffId, progress);
    const prepared: PreparedLayer = this.#prepared.use(await layers.prepare(bytes, signal));
    if (prepared.diffId !== diffId) throw wrongDiff(index, diffId, prepared.diffId);
  }
}

/** Docker's words. */
export const wrongDiff = (index: number, expected: DiffId, found: DiffId): EngineError =>
  new EngineError(
    "data_loss",
    `invalid diffID for layer ${index}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(found)}`,
  );
