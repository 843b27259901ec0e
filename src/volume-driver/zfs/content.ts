/**
 * Data of volumes in datasets of ZFS, one for each. Where a process serves ZFS (zfs-fuse), it mounts them itself; a
 * kernel's are mounted like any filesystem.
 */
import { randomBytes } from "node:crypto";
import { basename, join } from "node:path";
import { EngineError, errorMessage, isError } from "../../base/errors.ts";
import { humanSize } from "../../base/size.ts";
import { mountAllAsync } from "../../host/mount.ts";
import { run, whenFree } from "../../host/zfs-command.ts";
import { datasetHolding, isZfsInKernel } from "../../host/zfs-dataset.ts";
import { type ContentSnapshots, type ContentSource, dataName, type VolumeContent } from "../content.ts";
import type { VolumeSpec } from "../driver.ts";
import {
  destroyDataset,
  dropSnapshot,
  hidden,
  isHidden,
  makeDataset,
  type NewDataset,
  referenced,
  snapshotsIn,
} from "./datasets.ts";
import { parseOptions } from "./options.ts";
import { type DatasetRecord, datasetsOf, findRecord, readRecord, writeRecord } from "./record.ts";

/** Milliseconds for a mount of before to end. */
const patience = 20_000;

export class DatasetContent implements VolumeContent {
  readonly #served = !isZfsInKernel();

  readonly snapshots: ContentSnapshots = {
    cost: async () => "constant",
    create: (folder, name) => this.#snapshot(folder, name),
    list: async (folder) =>
      (await this.#visible(folder)).map(({ name, seconds }) => ({
        name,
        createdAt: new Date(seconds * 1000).toISOString(),
      })),
    remove: (folder, name) => this.#removeSnapshot(folder, name),
    restore: (folder, name, { spec }) => this.#restore(folder, name, spec),
  };

  async make(folder: string, { name, options }: VolumeSpec, source?: ContentSource): Promise<void> {
    const { dataset, size } = parseOptions(options);
    const parent = dataset ?? (await parentOf(folder));
    const id = randomBytes(12).toString("hex");
    const wanted = { name: `${parent}/${name}`, id, size };
    if (source === undefined) return this.#makeHead(folder, wanted);
    const { dataset: holder } =
      source.snapshot === undefined
        ? { dataset: (await readRecord(source.folder)).head }
        : await this.#find(source.folder, source.snapshot);
    if (holder.split("/")[0] !== parent.split("/")[0])
      throw new EngineError("unsupported", `ZFS clones within a pool only, and ${parent} is in another than ${holder}`);
    if (source.snapshot !== undefined)
      return this.#makeHead(folder, { ...wanted, origin: `${holder}@${source.snapshot}` });
    await this.#changing(source.folder, async () => {
      const origin = `${holder}@${hidden("clone")}`;
      await run("zfs", "snapshot", origin);
      try {
        await this.#makeHead(folder, { ...wanted, origin });
      } finally {
        // It goes with the clone.
        await run("zfs", "destroy", "-d", origin);
      }
    });
  }

  async #makeHead(folder: string, wanted: NewDataset): Promise<void> {
    const tries = [wanted.name, `${wanted.name}-${randomBytes(4).toString("hex")}`];
    for (const [index, name] of tries.entries()) {
      await writeRecord(folder, { id: wanted.id, head: name, elders: [] });
      try {
        return await makeDataset({ ...wanted, name }, this.#served);
      } catch (error) {
        // Somebody else has a dataset of that name.
        if (errorMessage(error).includes("already exists") && index === 0) continue;
        if (!isError(error, "not_found")) throw error;
        const words = `${errorMessage(error)}; make the dataset that volumes are to be in (zfs create), or name another by the option dataset`;
        throw new EngineError("invalid_argument", words, { cause: error });
      }
    }
  }

  async mount(folder: string): Promise<void> {
    const { head } = await readRecord(folder);
    const target = join(folder, dataName);
    if (!this.#served) return mountAllAsync([{ kind: "filesystem", type: "zfs", source: head, options: [] }], target);
    await whenFree(async () => {
      // Of an earlier life: mounted where this process sees nothing.
      await run("zfs", "unmount", head).catch(() => undefined);
      await run("zfs", "set", `mountpoint=${target}`, head);
      await run("zfs", "mount", head);
    }, patience);
  }

  async release(folder: string): Promise<void> {
    const record = await findRecord(folder);
    if (record === undefined) return;
    const { id, making } = record;
    for (const name of [...(making === undefined ? [] : [making]), ...datasetsOf(record).toReversed()])
      await destroyDataset(name, id);
  }

  async usage(folder: string): Promise<number> {
    return referenced((await readRecord(folder)).head);
  }

  async resize(folder: string, size: number | undefined): Promise<void> {
    const { head } = await readRecord(folder);
    if (size !== undefined && (await referenced(head)) > size)
      throw new EngineError("conflict", `it holds more than ${humanSize(size)}; delete some of it first`);
    await run("zfs", "set", `refquota=${size ?? "none"}`, head);
  }

  async sweep(folder: string): Promise<void> {
    const record = await findRecord(folder);
    if (record?.making !== undefined || record?.changing === true) await this.#tidy(folder, record);
  }

  /** Runs what a crash, or a failure, may leave half done: what comes next on the volume then ends it first. */
  async #changing(folder: string, work: () => Promise<void>): Promise<void> {
    const before = await readRecord(folder);
    if (before.making !== undefined || before.changing === true) await this.#tidy(folder, before);
    await writeRecord(folder, { ...(await readRecord(folder)), changing: true });
    await work();
    const { changing: _, ...record } = await readRecord(folder);
    await writeRecord(folder, record);
  }

  async #tidy(folder: string, { making, changing: _, ...record }: DatasetRecord): Promise<void> {
    if (making !== undefined) await destroyDataset(making, record.id);
    for (const dataset of datasetsOf(record))
      for (const snapshot of await snapshotsIn(dataset))
        if (isHidden(snapshot)) await run("zfs", "destroy", "-d", `${dataset}@${snapshot.name}`);
    await writeRecord(folder, { ...record, changing: true });
    await this.#dissolve(folder);
    const { changing, ...kept } = await readRecord(folder);
    for (const elder of kept.elders) await forgetChanges(elder);
    await writeRecord(folder, kept);
  }

  async #snapshot(folder: string, name: string): Promise<void> {
    if ((await this.#visible(folder)).some((one) => one.name === name))
      throw new EngineError("conflict", `the volume has a snapshot ${name} already`);
    await run("zfs", "snapshot", `${(await readRecord(folder)).head}@${name}`);
  }

  /** Oldest first: a head has only snapshots that are younger than those of its elders. */
  async #visible(folder: string): Promise<readonly { dataset: string; name: string; seconds: number }[]> {
    const datasets = datasetsOf(await readRecord(folder));
    const all = await Promise.all(datasets.map((dataset) => snapshotsIn(dataset)));
    return all.flatMap((snapshots, index) =>
      snapshots.filter((one) => !isHidden(one)).map((one) => ({ ...one, dataset: datasets[index] ?? "" })),
    );
  }

  async #find(folder: string, snapshot: string): Promise<{ readonly dataset: string; readonly name: string }> {
    const found = (await this.#visible(folder)).find(({ name }) => name === snapshot);
    if (found !== undefined) return found;
    throw new EngineError("not_found", `the volume ${basename(folder)} has no snapshot ${snapshot}`);
  }

  async #removeSnapshot(folder: string, snapshot: string): Promise<void> {
    const { dataset, name } = await this.#find(folder, snapshot);
    await this.#changing(folder, async () => {
      await dropSnapshot(dataset, name);
      await this.#dissolve(folder);
    });
  }

  /** Destroys elders that hold no snapshot any more. */
  async #dissolve(folder: string): Promise<void> {
    const record = await readRecord(folder);
    const holding = new Set((await this.#visible(folder)).map(({ dataset }) => dataset));
    const left = record.elders.filter((elder) => holding.has(elder));
    if (left.length === record.elders.length) return;
    for (const elder of record.elders) if (!holding.has(elder)) await destroyDataset(elder, record.id);
    await writeRecord(folder, { ...record, elders: left });
  }

  /** The last moment of the head is rolled back to; an earlier one becomes a new head, so that no snapshot is lost. */
  async #restore(folder: string, snapshot: string, spec: VolumeSpec): Promise<void> {
    const { dataset, name: moment } = await this.#find(folder, snapshot);
    const { head } = await readRecord(folder);
    if (dataset === head && (await snapshotsIn(dataset)).at(-1)?.name === moment)
      await run("zfs", "rollback", `${dataset}@${moment}`);
    else await this.#changing(folder, () => this.#becomeClone(folder, `${dataset}@${moment}`, spec));
  }

  async #becomeClone(folder: string, origin: string, { name, options }: VolumeSpec): Promise<void> {
    const record = await readRecord(folder);
    const { head, id } = record;
    const making = `${head.slice(0, head.lastIndexOf("/"))}/${name}-${randomBytes(4).toString("hex")}`;
    await writeRecord(folder, { ...record, making });
    await makeDataset({ name: making, id, size: parseOptions(options).size, origin }, this.#served);
    await writeRecord(folder, { ...record, head: making, elders: [...record.elders, head] });
    await this.#dissolve(folder);
    await forgetChanges(head);
  }
}

/** What an elder holds besides its snapshots is of no use. */
async function forgetChanges(elder: string): Promise<void> {
  const last = (await snapshotsIn(elder)).at(-1);
  if (last !== undefined) await run("zfs", "rollback", `${elder}@${last.name}`);
}

async function parentOf(folder: string): Promise<string> {
  const { dataset, type } = await datasetHolding(folder);
  if (dataset !== undefined) return dataset;
  const words = `the data root (${join(folder, "../../..")}) is on ${type}; the zfs driver needs it on a ZFS dataset, or one named by the option dataset`;
  throw new EngineError("unsupported", words);
}
