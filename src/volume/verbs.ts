/**
 * The contract of what Strata does with volumes beyond Docker's words. Long work tells how far it is and can be aborted; what
 * fails or is aborted leaves the volumes as they were. Work on a volume that another verb is changing is refused with conflict.
 */
import type { CopyCost } from "../volume-driver/driver.ts";
import type { Volume } from "./store.ts";
import type { VolumeUser } from "./users.ts";

/** How far a piece of work is. Totals are there when they are known. */
export type VolumeProgress = {
  /** What is being done, in a word or two: `copying`, `comparing`. */
  readonly step: string;
  readonly bytes: number;
  readonly totalBytes?: number;
  readonly entries?: number;
  readonly totalEntries?: number;
};

export type VolumeWork = {
  readonly progress?: (progress: VolumeProgress) => void;
  readonly signal?: AbortSignal;
  /** False: containers that use the volume go on while it is copied. Default true: they stand still for the last moment. */
  readonly pause?: boolean;
};

/** How content came to be a second time. */
export type CopyReport = {
  /** `constant`, `reflink`: the driver's own way. `copy`: every byte. */
  readonly cost: CopyCost;
  /** The driver has no way of its own. */
  readonly byStore: boolean;
  /** Bytes that were copied; undefined where the driver did it. */
  readonly bytes: number | undefined;
  readonly seconds: number;
  /** False: it was written to meanwhile (`pause: false`), so it is of no one moment. */
  readonly consistent: boolean;
};

export type NewVolumeOf = {
  readonly name: string;
  /** The source's, unless given. */
  readonly driver?: string | undefined;
  /** The source's, where the driver is the same and none are given. */
  readonly options?: Readonly<Record<string, string>> | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
};

export type Snapshot = {
  readonly name: string;
  /** RFC 3339. */
  readonly createdAt: string;
  /** Kept by the volume's driver, or as a full copy by the store. */
  readonly keptBy: "driver" | "store";
  /** Of a full copy. */
  readonly bytes?: number;
};

export type VolumeSize = {
  readonly name: string;
  readonly driver: string;
  /** Sum of the sizes of files, each inode once; undefined with a `reason`. */
  readonly bytes?: number;
  /** What they take on the disk. */
  readonly allocated?: number;
  /** Everything that has an inode, the root directory too. */
  readonly inodes?: number;
  readonly reason?: string;
};

export type VolumeWho = {
  readonly name: string;
  readonly users: readonly VolumeUser[];
  /** When a container last began or ended to use it; RFC 3339. */
  readonly usedAt: string | undefined;
};

export type ImportReport = { readonly volume: Volume; readonly entries: number; readonly bytes: number };

export type MigrateReport = {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
  /** Names of the containers that were stopped and started again. */
  readonly stopped: readonly string[];
  /** Seconds for which they were stopped. */
  readonly downtime: number;
  readonly seconds: number;
  /** Why the old data are still there; the next start of the engine tries again. */
  readonly oldDataLeft?: string;
};

export interface VolumeVerbs {
  /** A new volume with the content of a volume as it is now, or of its snapshot. Throws conflict when the name is taken. */
  clone(
    from: { readonly name: string; readonly snapshot?: string | undefined },
    to: NewVolumeOf,
    work?: VolumeWork,
  ): Promise<{ readonly volume: Volume; readonly report: CopyReport }>;
  /** Without a name: the time. */
  createSnapshot(
    volume: string,
    name?: string,
    work?: VolumeWork,
  ): Promise<{ readonly snapshot: Snapshot; readonly report: CopyReport }>;
  /** Oldest first. */
  listSnapshots(volume: string): Promise<readonly Snapshot[]>;
  removeSnapshot(volume: string, name: string): Promise<void>;
  /** The volume's content becomes the snapshot's, which stays. Throws conflict, naming them, while containers run with it. */
  restoreSnapshot(volume: string, name: string, work?: VolumeWork): Promise<CopyReport>;
  /** Throws conflict, naming them, when containers refer to it. */
  rename(volume: string, name: string): Promise<Volume>;
  /** Options are added to those there are; an empty value takes one away. */
  update(volume: string, options: Readonly<Record<string, string>>): Promise<Volume>;
  /** `size` as the driver's option. Growing goes while it is used; shrinking below what it holds is a conflict. */
  resize(volume: string, size: string): Promise<Volume>;
  /** Exact; whoever does not answer in time is told by `reason`. */
  size(volume: string, options?: { readonly deadline?: number; readonly signal?: AbortSignal }): Promise<VolumeSize>;
  who(volume: string): Promise<VolumeWho>;
  /**
   * A tar that ends with a member which proves that it is whole. Containers go on writing unless `pause` is true: then they
   * stand still until the last byte is taken.
   */
  export(
    volume: { readonly name: string; readonly snapshot?: string | undefined },
    options?: VolumeWork & { readonly compress?: "none" | "zst" },
  ): AsyncIterable<Uint8Array>;
  /** Into a new volume: whole or not at all. `plain`: a tar that no export made, which nothing proves whole. */
  import(
    archive: AsyncIterable<Uint8Array>,
    to: NewVolumeOf,
    work?: VolumeWork & { readonly plain?: boolean; readonly totalBytes?: number | undefined },
  ): Promise<ImportReport>;
  /**
   * Moves a volume to another driver. Containers that run with it are stopped for the last pass and started again. Asked
   * again after a crash it goes on; the old data goes when the switch is on record.
   */
  migrate(
    volume: string,
    to: { readonly driver: string; readonly options?: Readonly<Record<string, string>> },
    work?: VolumeWork,
  ): Promise<MigrateReport>;
  /** Takes back what a migration that did not come to its end has copied. */
  cancelMigration(volume: string): Promise<void>;
  /** Called once after start-up: what a crash interrupted is ended, and containers that it had stopped are started. */
  recover(): Promise<void>;
}
