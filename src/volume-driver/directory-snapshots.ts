/** The snapshots of a driver whose volumes are directories: what their content can keep, under the driver's rules of use. */
import { EngineError } from "../base/errors.ts";
import type { ContentSnapshots, ContentSource } from "./content.ts";
import type { VolumeSnapshots, VolumeSpec } from "./driver.ts";
import { validateName } from "./volume-name.ts";

/** What it needs of the driver. */
export type SnapshotHost = {
  readonly snapshots: ContentSnapshots;
  /** Throws not_found, or unsupported where the data is not the driver's to keep. */
  readonly folderOf: (spec: VolumeSpec) => Promise<string>;
  /** Throws conflict while the volume is used or changed. */
  readonly changing: (spec: VolumeSpec, work: () => Promise<void>) => Promise<void>;
  /** Runs while nobody makes, changes, mounts or unmounts it, used or not. */
  readonly alone: (name: string, work: () => Promise<void>) => Promise<void>;
  readonly together: (names: readonly [string, string], work: () => Promise<void>) => Promise<void>;
  /** In the turn of the new volume. */
  readonly create: (spec: VolumeSpec, source: ContentSource) => Promise<void>;
};

export function directorySnapshots(host: SnapshotHost): VolumeSnapshots {
  const { snapshots, folderOf, changing, alone, together, create } = host;
  return {
    cost: async (spec) => snapshots.cost(await folderOf(spec)),
    async create(spec, snapshot) {
      validateName(snapshot);
      const folder = await folderOf(spec);
      await alone(spec.name, () => snapshots.create(folder, snapshot));
    },
    list: async (spec) => snapshots.list(await folderOf(spec)),
    async remove(spec, snapshot) {
      validateName(snapshot);
      const folder = await folderOf(spec);
      await alone(spec.name, () => snapshots.remove(folder, snapshot));
    },
    async restore(spec, snapshot) {
      validateName(snapshot);
      const folder = await folderOf(spec);
      await changing(spec, () => snapshots.restore(folder, snapshot, spec));
    },
    async clone({ spec, snapshot }, to) {
      if (snapshot !== undefined) validateName(snapshot);
      if (spec.name === to.name) throw new EngineError("conflict", `a volume is not its own clone: ${to.name}`);
      const folder = await folderOf(spec);
      await together([spec.name, to.name], () => create(to, { folder, snapshot }));
    },
  };
}
