/** No false alarm: whatever a layer's tar holds, a check of what was made of it finds nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isError } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import { randomChain } from "../layer/random-tar.fixture.ts";
import { bytes, StoreBench, tarOf } from "../layer/store.fixture.ts";
import type { PendingLayer } from "../layer/store.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import type { Verified } from "./verify-task.ts";

const runs = Number(process.env.STRATA_RUNS ?? 8);
const module = new URL("./verify-task.ts", import.meta.url);

for (const factory of [overlay2, vfs])
  test(`${factory.name}: layers of random tars are found sound`, async (context) => {
    const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
    context.diagnostic(`STRATA_SEED=${seed}`);
    await using pool = createPool({ size: 1 });
    await using bench = await StoreBench.open(factory);
    let judged = 0;
    const property = fc.asyncProperty(randomChain, async (chain) => {
      let below: PendingLayer | undefined;
      for (const entries of chain) {
        const layer = await bench.store
          .register(below?.chainId, bytes(await tarOf(...entries)))
          .catch((error: unknown) => {
            if (isError(error, "invalid_argument") || isError(error, "unsupported")) return undefined;
            throw error;
          });
        if (layer === undefined) continue;
        await bench.store.publish([layer], []);
        await using tree = await bench.store.mountLayer(layer.chainId);
        await using under = below === undefined ? undefined : await bench.store.mountLayer(below.chainId);
        const id = bench.database.get(
          "SELECT coalesce(diff, id) AS id FROM layer_layers WHERE chain_id = ?",
          layer.chainId,
        )?.id;
        const argument = {
          recipePath: `${bench.root}/layers/recipes/${id}`,
          root: tree.path,
          below: under?.path,
          tarSize: layer.tarSize,
        };
        const verified = await pool.run<typeof argument, Verified>(module, "verifyLayerTask", argument);
        const { diffId, tarSize, size } = layer;
        const whole = { recipe: "whole", recipeProblem: "", lost: [], deviations: [], unexplained: [] };
        judged += verified.size === undefined ? 0 : 1;
        assert.deepEqual(verified, { ...whole, diffId, tarSize, size: verified.size === undefined ? undefined : size });
        below = layer;
      }
    });
    await fc.assert(property, { seed, numRuns: runs });
    assert.ok(judged > runs / 2, `only ${judged} layers could be judged`);
  });
