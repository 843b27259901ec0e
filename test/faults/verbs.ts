/**
 * The verbs of the layer store that faults are tried on. `prepare` makes what the verb needs, on a host that works; `act` is
 * what fails; `undo` brings the world back after a success. What a failing `act` left pending is given up by it, as the
 * store's callers do.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChainId } from "../../src/base/digest.ts";
import { bytes, collectBytes, tarOf } from "../../src/layer/store.fixture.ts";
import type { PendingLayer } from "../../src/layer/store.ts";
import type { FaultStore } from "./fault-store.ts";

export type Verb = {
  readonly name: string;
  readonly prepare?: (world: FaultStore) => Promise<void>;
  readonly act: (world: FaultStore) => Promise<void>;
  /** After a success. */
  readonly undo?: (world: FaultStore) => Promise<void>;
  /** Calls whose failure need not be the verb's: what is given back or removed, which is tried again. */
  readonly survives: RegExp;
  /** Containers that are mounted, or may be, after a failure. */
  readonly containers?: readonly string[];
  /** True where only the place of a container's mount may be there after a failure, and nothing mounted on it. */
  readonly placesOnly?: boolean;
};

const none = { storageOptions: {}, statements: [] };
const small = await tarOf({ path: "file", content: "x".repeat(2000) }, { path: "etc/.wh.new" });
const top = await tarOf({ path: "file", content: "over" });

/** As callers do: what is not published is given up. */
async function publishOrAbandon(world: FaultStore, layers: readonly PendingLayer[], owner: string): Promise<void> {
  const last = layers.at(-1);
  assert.ok(last !== undefined);
  try {
    await world.store.publish(layers, world.store.holdStatements(owner, last.chainId));
  } catch (error) {
    await world.store.abandon(layers).catch(() => undefined);
    throw error;
  }
}

/** Registers two layers over `child`; all or nothing. */
async function registerTwo(world: FaultStore): Promise<PendingLayer[]> {
  const layers: PendingLayer[] = [];
  try {
    layers.push(await world.store.register(world.child, bytes(small)));
    layers.push(await world.store.register(layers[0]?.chainId, bytes(top)));
    return layers;
  } catch (error) {
    await world.store.abandon(layers).catch(() => undefined);
    throw error;
  }
}

const pending = new WeakMap<FaultStore, readonly PendingLayer[]>();
const pendingOf = (world: FaultStore): readonly PendingLayer[] => pending.get(world) ?? [];

/** An image of its own, so that its init layer is not there yet. */
async function makeImage(world: FaultStore): Promise<ChainId> {
  const layer = await world.store.register(world.child, bytes(small));
  await publishOrAbandon(world, [layer], "image:new");
  return layer.chainId;
}

const images = new WeakMap<FaultStore, ChainId>();
const imageOf = (world: FaultStore): ChainId => {
  const chain = images.get(world);
  assert.ok(chain !== undefined);
  return chain;
};

async function withContainer(world: FaultStore): Promise<void> {
  await world.store.createWritable("c", world.child, none);
}

async function withMounted(world: FaultStore): Promise<void> {
  await withContainer(world);
  writeFileSync(join(await world.store.mountWritable("c", "run"), "etc/mine"), "m".repeat(100));
}

const removeContainer = (world: FaultStore): Promise<void> => world.store.removeWritable("c", []);

const givingBack = "close|umount2|rmdir .*";
const sweeping = "close|ioctl|statx|openat2|lseek|getdents64|unlinkat|renameat2|spawn .*";
const database = "sqlite (PRAGMA|BEGIN|SAVEPOINT|RELEASE|COMMIT|run DELETE|get SELECT id, data).*";
const removing = `(rename|rm|unlink|stat) .*|${sweeping}|${database}`;
const only = (...calls: readonly string[]): RegExp => new RegExp(`^(${calls.join("|")})$`);

export const verbs: readonly Verb[] = [
  {
    name: "register",
    survives: only(givingBack, sweeping),
    act: async (world) => void pending.set(world, [await world.store.register(world.child, bytes(small))]),
    undo: (world) => world.store.abandon(pendingOf(world)),
  },
  {
    name: "register two, publish",
    survives: only(givingBack, sweeping),
    act: async (world) => publishOrAbandon(world, await registerTwo(world), "image:two"),
    undo: (world) => world.drop(),
  },
  {
    name: "publish",
    survives: only(givingBack),
    prepare: async (world) => void pending.set(world, await registerTwo(world)),
    act: (world) => publishOrAbandon(world, pendingOf(world), "image:two"),
    undo: (world) => world.drop(),
  },
  {
    name: "abandon",
    survives: only(removing, givingBack),
    prepare: async (world) => void pending.set(world, await registerTwo(world)),
    act: (world) => world.store.abandon(pendingOf(world)),
  },
  {
    name: "create the first container of an image",
    survives: only(givingBack),
    prepare: async (world) => void images.set(world, await makeImage(world)),
    act: (world) => world.store.createWritable("c", imageOf(world), none),
    undo: async (world) => {
      await removeContainer(world);
      await world.drop();
    },
  },
  {
    name: "create a container",
    survives: only("close"),
    act: withContainer,
    undo: removeContainer,
  },
  {
    name: "mount",
    survives: only(givingBack),
    prepare: withContainer,
    act: async (world) => void (await world.store.mountWritable("c", "run")),
    undo: removeContainer,
    containers: ["c"],
    placesOnly: true,
  },
  {
    name: "unmount",
    survives: only(givingBack),
    prepare: withMounted,
    act: (world) => world.store.unmountWritable("c", "run"),
    undo: removeContainer,
    containers: ["c"],
  },
  {
    name: "size, changes and tar of a container",
    survives: only(givingBack, "access .*"),
    prepare: async (world) => {
      await withMounted(world);
      await world.store.unmountWritable("c", "run");
    },
    act: async (world) => {
      assert.equal(await world.store.writableSize("c"), 100);
      assert.deepEqual(
        (await world.store.changes("c")).map(({ path }) => path),
        ["/etc", "/etc/mine"],
      );
      await collectBytes(world.store.changesTar("c"));
    },
    undo: removeContainer,
    containers: ["c"],
  },
  {
    name: "commit a running container",
    survives: only(givingBack, sweeping),
    prepare: withMounted,
    act: async (world) => {
      const layer = await world.store.register(world.child, world.store.changesTar("c"));
      await publishOrAbandon(world, [layer], "image:two");
    },
    undo: async (world) => {
      await removeContainer(world);
      await world.drop();
    },
    containers: ["c"],
  },
  {
    name: "remove a mounted container",
    survives: only(givingBack, removing),
    prepare: withMounted,
    act: removeContainer,
    containers: ["c"],
  },
  {
    name: "collect",
    survives: only(removing, givingBack),
    prepare: async (world) => {
      await publishOrAbandon(world, await registerTwo(world), "image:two");
      await world.database.transact(world.store.releaseStatements("image:two"));
    },
    act: async (world) => void (await world.store.collect()),
  },
  {
    name: "tar",
    survives: only(givingBack),
    act: async (world) => void (await collectBytes(world.store.tar(world.child))),
  },
  {
    name: "look into a layer",
    survives: only(givingBack),
    act: async (world) => {
      await using _tree = await world.store.mountLayer(world.child);
    },
  },
  {
    name: "sweep",
    survives: only("close"),
    prepare: async (world) => {
      await world.driver.createWritable({ id: "gone", parents: [] }, {});
      await world.driver.remove("gone");
    },
    act: async (world) => void (await world.driver.sweep()),
  },
  {
    name: "open",
    survives: only(
      givingBack,
      sweeping,
      "(fs|mo)[a-z_]+",
      "fallocate|open .*-wal",
      "(rm|mkdir|readdir|mkdtemp) .*/.trial-.*",
      // the sweep of zfs looks there for places of datasets that are gone
      "readdir .*/graph",
    ),
    prepare: (world) => world.close(),
    act: (world) => world.open(),
  },
];
