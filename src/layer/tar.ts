/**
 * A layer's tar, made again from its tree and its recipe, and proved: the digest of what was streamed is the diff ID,
 * or the stream ends in data_loss. A reader must not trust the bytes before the stream has ended well.
 */
import { EngineError, isError, systemCode } from "../base/errors.ts";
import type { LayerRef } from "../storage-driver/driver.ts";
import { orTellLost } from "./lost-data.ts";
import { type Parts, recipePath, refOf } from "./parts.ts";
import type { LayerRow } from "./records.ts";
import { streamTask } from "./stream-task.ts";

const tasks = new URL("./tar-task.ts", import.meta.url);

/** Streams the tar of `layer`. */
export const layerTar = (parts: Parts, layer: LayerRow): AsyncGenerator<Uint8Array, void, void> =>
  restoredTar(parts, refOf(parts, layer.id), layer);

/** Streams the tar whose recipe and files `content` has, out of the view `shown`. */
export async function* restoredTar(
  parts: Parts,
  shown: LayerRef,
  layer: Content,
): AsyncGenerator<Uint8Array, void, void> {
  const { driver, mounts, pool } = parts;
  await using tree = await orTellLost(parts, shown, async () => mounts.mount(await driver.mounts(shown, "layer")));
  const argument = { recipePath: recipePath(parts, layer.content), root: tree.path };
  try {
    const digest = yield* streamTask<typeof argument, string>(pool, {
      module: tasks,
      name: "verifiedTarTask",
      argument,
    });
    if (digest !== layer.diffId) throw unverifiable(layer);
  } catch (error) {
    throw isMissingData(error) ? unverifiable(layer, error) : error;
  }
}

type Content = Pick<LayerRow, "content" | "diffId">;

const isMissingData = (error: unknown): boolean =>
  isError(error, "data_loss") || isError(error, "not_found") || systemCode(error) === "ENOENT";

/** Docker's words (moby layer/ro_layer.go). */
const unverifiable = ({ diffId }: Content, cause?: unknown): EngineError =>
  new EngineError(
    "data_loss",
    `could not verify layer data for: ${diffId}. This may be because internal files in the layer store were modified. Re-pulling or rebuilding this image may resolve the issue`,
    cause === undefined ? {} : { cause },
  );
