/**
 * zfs: every layer is a dataset, made as a clone of its parent's snapshot: a whole tree that shares each unchanged block,
 * at the cost of one command whatever its size. The snapshot is taken once, when a layer is fixed. See datasets.ts.
 *
 * Promises: the driver keeps no record; what is there is asked of ZFS. Commands are synced by ZFS before they return.
 */
import type { Mounts } from "../../base/mount.ts";
import type { Pool } from "../../host/pool.ts";
import { run } from "../../host/zfs-command.ts";
import type { DriverFactory, LayerRef, Stage, StorageDriver, Traits } from "../driver.ts";
import { containerSize, sizeOption } from "../size-limit.ts";
import { Datasets } from "./datasets.ts";
import type { DifferencesArgument } from "./differences.ts";
import { checkDaemonOptions, parentDataset } from "./parent.ts";
import { tryZfs } from "./trial.ts";

const differences = new URL("./differences.ts", import.meta.url);

export const zfs: DriverFactory = {
  name: "zfs",
  probe: tryZfs,
  async open(home, options, { pool }) {
    checkDaemonOptions(options);
    const datasets = new Datasets(home, await parentDataset(home, options));
    await datasets.create();
    return new Zfs(home, datasets, pool);
  },
};

class Zfs implements StorageDriver {
  readonly name = "zfs";
  readonly home: string;
  readonly traits: Traits;
  readonly #datasets: Datasets;
  readonly #pool: Pool;

  constructor(home: string, datasets: Datasets, pool: Pool) {
    this.home = home;
    this.#pool = pool;
    const shared = { keeps: "whole", maxParents: 500, sharesBlocks: true, containerOptions: [sizeOption] } as const;
    this.traits = datasets.served ? { ...shared, wholeSeconds: true } : shared;
    this.#datasets = datasets;
  }

  async stage({ id, parents }: LayerRef): Promise<Stage> {
    await this.#datasets.make(id, parents[0]);
    return { form: "tree", mounts: await this.#datasets.mounts(id, false) };
  }

  async commit({ id }: LayerRef): Promise<void> {
    await this.#datasets.fix(id);
  }

  async createWritable({ id, parents }: LayerRef, options: Readonly<Record<string, string>>): Promise<void> {
    await this.#datasets.make(id, parents[0], containerSize(options, { driver: this.name }));
  }

  /** A snapshot and a clone of it; a limit is for a copy to keep. */
  async cloneWritable(source: LayerRef, { id }: LayerRef, options: Readonly<Record<string, string>>): Promise<boolean> {
    if (containerSize(options, { driver: this.name }) !== undefined) return false;
    return this.#datasets.fork(source.id, id);
  }

  async mounts({ id }: LayerRef, kind: "layer" | "writable"): Promise<Mounts> {
    return this.#datasets.mounts(id, kind === "layer");
  }

  changes(): undefined {
    return undefined;
  }

  /** By `zfs diff` (see differences.ts), which zfs-fuse has not. */
  async candidates({ id, parents }: LayerRef, signal?: AbortSignal): Promise<readonly string[] | undefined> {
    const [parent] = parents;
    if (parent === undefined || this.#datasets.served) return undefined;
    const argument = await this.#datasets.difference(id, parent);
    const options = signal === undefined ? {} : { signal };
    return this.#pool.run<DifferencesArgument, string[] | undefined>(differences, "differencesTask", argument, options);
  }

  async remove(id: string): Promise<void> {
    await this.#datasets.discard(id);
  }

  list(): Promise<readonly string[]> {
    return this.#datasets.list();
  }

  sweep(signal?: AbortSignal): Promise<number> {
    return this.#datasets.sweep(signal);
  }

  /** Docker's rows, in Docker's order (moby zfs.Status). */
  async status(): Promise<readonly (readonly [string, string])[]> {
    const { parent } = this.#datasets;
    const [pool = ""] = parent.split("/");
    const health = (await run("zpool", "list", "-H", "-o", "health", pool)).trim();
    const properties = await run(
      "zfs",
      "get",
      "-Hp",
      "-o",
      "property,value",
      "used,available,quota,compression",
      parent,
    );
    const values = new Map(properties.split("\n").map((line): [string, string] => cut(line)));
    const quota = values.get("quota") ?? "0";
    return [
      ["Zpool", pool],
      ["Zpool Health", health],
      ["Parent Dataset", parent],
      ["Space Used By Parent", values.get("used") ?? ""],
      ["Space Available", values.get("available") ?? ""],
      ["Parent Quota", quota === "0" ? "no" : quota],
      ["Compression", values.get("compression") ?? ""],
    ];
  }

  describe({ id }: LayerRef): Readonly<Record<string, string>> {
    return { Mountpoint: this.#datasets.place(id), Dataset: this.#datasets.name(id) };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

const cut = (line: string): [string, string] => {
  const [property = "", value = ""] = line.split("\t");
  return [property, value];
};
