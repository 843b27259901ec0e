/**
 * The snapshots of a driver whose volumes are directories: what their content can keep, under the driver's rules of use.
 *
 * A container's start holds the store's lock of the volume and waits for the driver's turn; `still` waits for that lock. So nobody
 * waits for `still` in a turn: what takes long goes before, while the volume is *copied*, which keeps it where it is.
 */
import { EngineError } from "../base/errors.ts";
import type { ContentSnapshots, ContentSource } from "./content.ts";
import type { CopyWork, VolumeSnapshots, VolumeSpec } from "./driver.ts";
import { validateName } from "./volume-name.ts";

/** What it needs of the driver. */
export type SnapshotHost = {
  readonly snapshots: ContentSnapshots;
  /** Throws not_found, or unsupported where the data is not the driver's to keep. */
  readonly folderOf: (spec: VolumeSpec) => Promise<string>;
  /** Throws conflict while the volume is used or changed. */
  readonly changing: (spec: VolumeSpec, work: () => Promise<void>) => Promise<void>;
  /** Runs while nobody makes, changes, mounts or unmounts it, used or not. */
  readonly alone: <T>(name: string, work: () => Promise<T>) => Promise<T>;
  readonly together: (names: readonly [string, string], work: () => Promise<void>) => Promise<void>;
  /** Until it is disposed whatever would move or remove the volume or its snapshots is refused. */
  readonly copying: (name: string) => Disposable;
  /** Throws conflict while it is copied. */
  readonly refuseCopied: (name: string) => void;
  /** In the turn of the new volume. */
  readonly create: (spec: VolumeSpec, source: ContentSource) => Promise<void>;
};

export function directorySnapshots(host: SnapshotHost): VolumeSnapshots {
  const { snapshots, folderOf, changing, alone } = host;
  return {
    cost: async (spec) => snapshots.cost(await folderOf(spec)),
    async create(spec, snapshot, work = {}) {
      validateName(snapshot);
      return createSnapshot(host, { spec, snapshot, work });
    },
    list: async (spec) => snapshots.list(await folderOf(spec)),
    async remove(spec, snapshot) {
      validateName(snapshot);
      const folder = await folderOf(spec);
      await alone(spec.name, async () => {
        host.refuseCopied(spec.name);
        await snapshots.remove(folder, snapshot);
      });
    },
    async restore(spec, snapshot, work = {}) {
      validateName(snapshot);
      const folder = await folderOf(spec);
      await changing(spec, () => snapshots.restore(folder, snapshot, { spec, work }));
    },
    async clone({ spec, snapshot }, to, work = {}) {
      if (snapshot !== undefined) validateName(snapshot);
      if (spec.name === to.name) throw new EngineError("conflict", `a volume is not its own clone: ${to.name}`);
      await cloneVolume(host, { spec, snapshot, work }, to);
    },
  };
}

type Source = { readonly spec: VolumeSpec; readonly work: CopyWork };

async function createSnapshot(
  host: SnapshotHost,
  { spec, snapshot, work }: Source & { readonly snapshot: string },
): Promise<{ readonly consistent: boolean }> {
  const { snapshots, alone } = host;
  const { cost, folder } = await look(host, spec);
  const create = (): Promise<void> => alone(spec.name, () => snapshots.create(folder, snapshot, work));
  if (cost === "constant" || snapshots.begin === undefined) {
    await create();
    return { consistent: true };
  }
  using _copying = await keep(host, spec);
  // Where blocks are shared users stand still at once: that is shorter than to find what they change meanwhile.
  if (cost === "reflink" && work.still !== undefined) {
    await standStill(work);
    await create();
    return { consistent: true };
  }
  await using begun = await snapshots.begin(folder, snapshot, work);
  await standStill(work);
  return { consistent: await alone(spec.name, () => begun.finish(work.still !== undefined)) };
}

async function cloneVolume(
  host: SnapshotHost,
  { spec, snapshot, work }: Source & { readonly snapshot: string | undefined },
  to: VolumeSpec,
): Promise<void> {
  const { alone, together, create } = host;
  const { cost, folder } = await look(host, spec);
  const source = { folder, snapshot, work };
  if (cost === "constant") return together([spec.name, to.name], () => create(to, source));
  using _copying = await keep(host, spec);
  // A snapshot changes for nobody: who wants to use the volume need not wait.
  if (snapshot !== undefined) return await alone(to.name, () => create(to, source));
  await standStill(work);
  await together([spec.name, to.name], () => create(to, source));
}

async function look({ snapshots, folderOf }: SnapshotHost, spec: VolumeSpec) {
  const folder = await folderOf(spec);
  return { folder, cost: await snapshots.cost(folder) };
}

/** The volume is there, and stays where it is until this is disposed. */
function keep({ alone, folderOf, copying }: SnapshotHost, spec: VolumeSpec): Promise<Disposable> {
  return alone(spec.name, async () => {
    await folderOf(spec);
    return copying(spec.name);
  });
}

async function standStill({ still, signal }: CopyWork): Promise<void> {
  signal?.throwIfAborted();
  await still?.();
  signal?.throwIfAborted();
}
