/**
 * A data root as a stopped engine leaves it: an image of random layers, one that describes every path, and containers over
 * it that changed what they could. `picture` is all that must be the same after a move, exactly; times of directories
 * that no tar describes are the clock's, so the random image is compared by its tars.
 */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { changeTree, randomOf } from "../archive/random-changes.fixture.ts";
import { type ChainId, digestOf, parseImageId } from "../base/digest.ts";
import { errorCode } from "../base/errors.ts";
import { EventBus } from "../base/events.ts";
import { checkDataRoot } from "../check/check.ts";
import { containerSchema, insertStatement, newState } from "../container/record.ts";
import { mountTable, unmountAll } from "../host/mount.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { createPool } from "../host/worker-pool.ts";
import { openImageStore } from "../image/open.ts";
import { imageSchema } from "../image/schema.ts";
import { noteUse, readRoles } from "../layer/driver-roles.ts";
import { openLayerStore } from "../layer/open.ts";
import { randomChain } from "../layer/random-tar.fixture.ts";
import { layerSchema } from "../layer/schema.ts";
import { bytes, collectBytes, type TestEntry, tarOf } from "../layer/store.fixture.ts";
import type { LayerStore, PendingLayer } from "../layer/store.ts";
import type { Database } from "../metadata/database.ts";
import { openDatabase } from "../metadata/open.ts";
import { networkSchema } from "../network/open.ts";
import { openStorageDriver } from "../storage-driver/select.ts";
import { volumeSchema } from "../volume/schema.ts";

const schemas = [layerSchema, imageSchema, volumeSchema, networkSchema, containerSchema];
const pool = createPool({ size: 2 });

/** All that an init layer would make stands in the image, with times of its own. */
const described: readonly TestEntry[] = [
  { path: "./", type: "directory" },
  ...["proc", "sys", "dev", "dev/pts", "dev/shm", "etc", "bin", "d"].map(
    (path): TestEntry => ({ path, type: "directory" }),
  ),
  ...["dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"].map((path): TestEntry => ({ path })),
  { path: "etc/mtab", type: "symlink", link: "/proc/mounts" },
  { path: "bin/tool", content: "tool".repeat(5000), mode: 0o4755 },
  { path: "bin/again", type: "link", link: "bin/tool" },
  { path: "d/x", content: "x" },
  { path: "d/y", content: "y" },
];

export type Opened = AsyncDisposable & {
  readonly database: Database;
  readonly layers: LayerStore;
  readonly driver: string;
};

/** Of this process alone: others may have mounts of theirs in this namespace, and a mount tells of its container by its id. */
export const idOf = (index: number): string =>
  createHash("sha256").update(`container ${index} of ${process.pid}`).digest("hex");

type MakeOptions = {
  readonly seed: number;
  readonly base?: string;
  readonly containers?: number;
  /** Without attributes and names that mean something to overlays; a driver may refuse what has them. */
  readonly plain?: boolean;
};

export class MovedRoot implements AsyncDisposable {
  readonly root: string;
  readonly #scratch: string;
  readonly #seed: number;
  readonly #plain: boolean;
  /** Containers' exact trees and layers' tars, as they were made. */
  truth: readonly string[] = [];

  private constructor({ base = tmpdir(), seed, plain = false }: MakeOptions) {
    this.#scratch = mkdtempSync(join(base, "moved-"));
    this.root = join(this.#scratch, "root");
    this.#seed = seed;
    this.#plain = plain;
    mkdirSync(this.root);
  }

  static async make(driver: string, options: MakeOptions): Promise<MovedRoot> {
    const made = new MovedRoot(options);
    {
      await using opened = await made.open(driver);
      await made.#fill(opened, options.containers ?? 3);
    }
    made.truth = await made.picture(driver);
    return made;
  }

  /** As a daemon opens it. */
  async open(configured?: string): Promise<Opened> {
    await using stack = new AsyncDisposableStack();
    const database = stack.use(await openDatabase(join(this.root, "meta.db"), schemas));
    const driver = stack.use(
      await openStorageDriver({
        root: this.root,
        ...(configured === undefined ? {} : { configured }),
        recorded: readRoles(database).current,
        options: {},
        context: { pool },
      }),
    );
    await noteUse(database, driver.name);
    const layers = stack.use(
      await openLayerStore({ root: this.root, execRoot: join(this.#scratch, "exec"), driver, database, pool }),
    );
    const kept = stack.move();
    return { database, layers, driver: driver.name, [Symbol.asyncDispose]: () => kept.disposeAsync() };
  }

  async change(id: string, seed: number, layers: LayerStore): Promise<void> {
    const path = await layers.mountWritable(id, "test");
    changeTree(path, randomOf(seed), 25);
    if (this.#plain) removeNamed(path, /^\.wh\./);
    await layers.unmountWritable(id, "test");
  }

  /** Everything that a move must keep. */
  async picture(configured?: string): Promise<readonly string[]> {
    await using opened = await this.open(configured);
    const { layers, database } = opened;
    const lines: string[] = [];
    for (const { chainId, diffId, size } of layers.list()) {
      const tar = await collectBytes(layers.tar(chainId));
      lines.push(`layer ${chainId} ${diffId} ${size} ${digestOf(tar)}`);
    }
    for (const { id } of database.all("SELECT id FROM container ORDER BY id")) {
      const path = await layers.mountWritable(String(id), "test");
      lines.push(...pictureOf(path).map((line) => `${String(id).slice(0, 4)} ${line}`));
      await layers.unmountWritable(String(id), "test");
      await layers.writableSize(String(id));
    }
    for (const row of database.all("SELECT * FROM container ORDER BY id")) lines.push(JSON.stringify(row));
    return lines;
  }

  async problems(): Promise<readonly string[]> {
    const { problems } = await checkDataRoot({ dataRoot: this.root, execRoot: join(this.#scratch, "exec") });
    return problems.map(({ kind, object, detail }) => `${kind} ${object}: ${detail}`);
  }

  async #fill({ layers, database }: Opened, containers: number): Promise<void> {
    const [random = []] = fc.sample(randomChain, { seed: this.#seed, numRuns: 1 });
    const isPlain = ({ xattrs }: TestEntry): boolean => !xattrs?.has("trusted.overlay.opaque");
    const chain = this.#plain ? random.map((layer) => layer.filter(isPlain)) : random;
    await this.#image({ layers, database }, "random", chain);
    const top = await this.#image({ layers, database }, "described", [
      described,
      [{ path: "d", type: "directory" }, { path: "d/.wh.x" }, { path: "d/z", content: "z".repeat(100_000) }],
    ]);
    for (let index = 0; index < containers; index++) {
      const id = idOf(index);
      await layers.createWritable(id, top, {
        storageOptions: {},
        statements: [insertStatement(recordOf(id, index), newState)],
      });
      await this.change(id, this.#seed + index, layers);
    }
  }

  async #image(
    { layers, database }: Pick<Opened, "layers" | "database">,
    name: string,
    tars: readonly (readonly TestEntry[])[],
  ): Promise<ChainId | undefined> {
    const pending: PendingLayer[] = [];
    for (const entries of tars) {
      try {
        pending.push(await layers.register(pending.at(-1)?.chainId, bytes(await tarOf(...entries))));
      } catch (error) {
        // Random tars may say what cannot be.
        if (name !== "random" || errorCode(error) === "internal") throw error;
      }
    }
    const images = openImageStore({ database, layers, events: new EventBus() });
    const text = JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: pending.map(({ diffId }) => diffId) },
    });
    const id = parseImageId(digestOf(text));
    await layers.publish(pending, [
      ...images.putStatements({ id, bytes: text, local: true }),
      ...images.tagStatements(`docker.io/library/${name}:latest` as never, id),
    ]);
    return pending.at(-1)?.chainId;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { target } of mountTable().toReversed()) if (target.startsWith(this.#scratch)) unmountAll(target);
    for (const name of ["btrfs", "fuse-overlayfs", "overlay2", "vfs", "zfs"]) {
      const driver = await openStorageDriver({
        root: this.root,
        configured: name,
        options: {},
        context: { pool },
      }).catch(() => undefined);
      for (const id of (await driver?.list()) ?? []) await driver?.remove(id);
      await driver?.sweep();
    }
    rmSync(this.#scratch, { recursive: true });
  }
}

function removeNamed(root: string, pattern: RegExp): void {
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    const path = join(root, entry.name);
    if (pattern.test(entry.name)) rmSync(path, { recursive: true });
    else if (entry.isDirectory()) removeNamed(path, pattern);
  }
}

const recordOf = (id: string, index: number) => ({
  id,
  name: `web${index}`,
  created: "2026-01-01T00:00:00Z",
  imageId: undefined,
  image: "described",
  path: "sh",
  args: [],
  config: {},
  hostConfig: {},
  mounts: [],
  networks: {},
  logPath: "",
  hostnamePath: "",
  hostsPath: "",
  resolvConfPath: "",
});
