/** Copy-up into a volume that engines with data roots of their own share, as over a network: one fill wins, whole. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EventBus } from "../base/events.ts";
import { createPool } from "../host/worker-pool.ts";
import { openDatabase } from "../metadata/open.ts";
import { startPlugin } from "../volume-driver/docker-plugin/plugin.fixture.ts";
import type { VolumeDriverSource } from "../volume-driver/driver.ts";
import { openForeignDrivers, openVolumeDrivers } from "../volume-driver/list.ts";
import { openVolumeStore } from "./open.ts";
import { volumeSchema } from "./schema.ts";
import type { VolumeStore } from "./store.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";
const files = 40;

type Engine = { readonly store: VolumeStore; readonly image: string };
type Given = { readonly shared: string; readonly engines: readonly [Engine, Engine] };

async function openOne(
  root: string,
  shared: string,
  stack: AsyncDisposableStack,
  foreign?: VolumeDriverSource,
): Promise<Engine> {
  const image = join(root, "image");
  const name = root.slice(-1);
  await mkdir(join(image, "data"), { recursive: true });
  for (let index = 0; index < files; index++) await writeFile(join(image, "data", `${name}${index}`), name);
  const database = stack.use(await openDatabase(join(root, "meta.db"), [volumeSchema]));
  const pool = stack.use(createPool());
  const drivers = await openVolumeDrivers({ root, pool });
  const store = await openVolumeStore({ database, drivers, foreign, pool, events: new EventBus() });
  await store.settle();
  await store.create({ name: "v1", options: { type: "none", device: shared, o: "bind" } });
  return { store, image };
}

const given = (work: (given: Given) => Promise<void>) => async () => {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "shared-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const shared = join(root, "shared");
  await mkdir(shared);
  const open = (name: string): Promise<Engine> => openOne(join(root, name), shared, stack);
  await work({ shared, engines: [await open("a"), await open("b")] });
};

const fill = ({ store, image }: Engine): Promise<void> => store.copyUp("v1", { root: image, path: "/data" });
/** What the engine of that name fills in. */
const content = (name: string): string[] => Array.from({ length: files }, (_, index) => `${name}${index}`).sort();

describe("a volume that two engines share", { skip }, () => {
  test(
    "is filled by exactly one of many that begin it at once, and nobody fails",
    given(async ({ shared, engines }) => {
      const winners = new Set<string>();
      for (let round = 0; round < 12; round++) {
        await mkdir(join(shared, "lost+found"), { recursive: true });
        const [first, second] = round % 2 === 0 ? engines : [...engines].reverse();
        assert.ok(first !== undefined && second !== undefined);
        await Promise.all([first, second, first, second, first, second].map(fill));
        const found = (await readdir(shared)).filter((name) => name !== "lost+found").sort();
        winners.add(found[0]?.slice(0, 1) ?? "");
        assert.deepEqual(found, content(found[0]?.slice(0, 1) ?? ""), `round ${round}`);
        for (const name of await readdir(shared)) await rm(join(shared, name), { recursive: true });
      }
    }),
  );

  test(
    "keeps what another is still staging, and does not take it for data",
    given(async ({ shared, engines: [engine] }) => {
      const theirs = join(shared, ".copy-up.fedcba9876543210.new");
      await mkdir(join(theirs, "entries/half"), { recursive: true });
      await fill(engine);
      assert.deepEqual((await readdir(shared)).sort(), [".copy-up.fedcba9876543210.new", ...content("a")].sort());
      assert.ok(existsSync(join(theirs, "entries/half")));
    }),
  );

  const ready = (shared: string): string => join(shared, ".copy-up.ready");
  const stageTheirs = async (shared: string): Promise<void> => {
    await mkdir(join(ready(shared), "entries"), { recursive: true });
    await mkdir(join(ready(shared), "root"));
    await mkdir(join(ready(shared), "owner-fedcba9876543210"));
    for (const name of content("c")) await writeFile(join(ready(shared), "entries", name), "c");
  };

  test(
    "waits for the other's move as long as it goes on",
    given(async ({ shared, engines: [engine] }) => {
      await stageTheirs(shared);
      let over = false;
      const filling = fill(engine).then(() => {
        assert.ok(over, "the other had ended");
      });
      for (const name of content("c")) {
        await sleep(30);
        await rename(join(ready(shared), "entries", name), join(shared, name));
      }
      over = true;
      await rename(ready(shared), join(shared, ".copy-up.fedcba9876543210.done"));
      await filling;
      await rm(join(shared, ".copy-up.fedcba9876543210.done"), { recursive: true });
      assert.deepEqual((await readdir(shared)).sort(), content("c"));
    }),
  );

  test(
    "gets the rest of a move whose engine was killed and never came back, and nothing else",
    given(async ({ shared, engines: [, engine] }) => {
      await stageTheirs(shared);
      await rename(join(ready(shared), "entries/c0"), join(shared, "c0"));
      const path = await engine.store.mount("v1", "use");
      assert.deepEqual((await readdir(path)).sort(), content("c"), "before anybody sees the volume");
      await engine.store.unmount("v1", "use");
      await fill(engine);
      assert.deepEqual((await readdir(shared)).sort(), content("c"));
    }),
  );
});

test("fifty containers that begin one volume of a plugin at once: no error, one whole fill, every use given back", {
  skip,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "shared-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const folders = { sockets: [join(root, "plugins")], specs: [] };
  const plugin = await startPlugin({ socket: join(root, "plugins/tdrv.sock"), data: join(root, "kept") });
  stack.defer(() => plugin.stop());
  const foreign = await openForeignDrivers({ root: join(root, "a"), folders });
  const { store, image } = await openOne(join(root, "a"), root, stack, foreign);
  await store.create({ name: "far", driver: "tdrv" });
  const source = { root: image, path: "/data" };
  await Promise.all(Array.from({ length: 50 }, () => store.copyUp("far", source)));
  assert.deepEqual((await readdir(join(root, "kept/far"))).sort(), content("a"));
  assert.deepEqual(plugin.state.mounts.get("far") ?? [], []);
});
