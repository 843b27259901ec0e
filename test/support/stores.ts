/** The image and layer stores over a real database and the vfs driver, in a scratch folder, for tests. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventBus } from "../../src/base/events.ts";
import { createPool } from "../../src/host/worker-pool.ts";
import { openImageStore } from "../../src/image/open.ts";
import { imageSchema } from "../../src/image/schema.ts";
import type { ImageStore } from "../../src/image/store.ts";
import { openLayerStore } from "../../src/layer/open.ts";
import { layerSchema } from "../../src/layer/schema.ts";
import type { LayerStore } from "../../src/layer/store.ts";
import type { Database } from "../../src/metadata/database.ts";
import { openDatabase } from "../../src/metadata/open.ts";
import { vfs } from "../../src/storage-driver/vfs/driver.ts";
import { createTransfer } from "../../src/transfer/create.ts";
import type { TransferService } from "../../src/transfer/transfer.ts";

export type Stores = AsyncDisposable & {
  readonly root: string;
  readonly database: Database;
  readonly events: EventBus;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly transfer: TransferService;
  /** What lies in the transfers' staging folder. */
  readonly staged: () => Promise<readonly string[]>;
};

export async function openStores(): Promise<Stores> {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "strata-stores-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const pool = stack.use(createPool());
  const database = stack.use(await openDatabase(join(root, "meta.db"), [layerSchema, imageSchema]));
  const driver = stack.use(await vfs.open(join(root, "vfs"), {}, { pool }));
  const layers = stack.use(await openLayerStore({ root, execRoot: join(root, "exec"), driver, database, pool }));
  const events = new EventBus();
  const images = openImageStore({ database, layers, events });
  const stagingRoot = join(root, "staging");
  const transfer = createTransfer({ layers, images, events, stagingRoot });
  const owned = stack.move();
  return {
    root,
    database,
    events,
    layers,
    images,
    transfer,
    staged: () => readdir(stagingRoot).catch(() => []),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
