/**
 * The contract of a volume driver: it makes, mounts and removes volumes by name. Names, references, copy-up and prune
 * live in `volume/`, never in a driver. `mount` carries the id of one use; a driver counts uses, not calls.
 */
import type { CopyProgress } from "../archive/copy-progress.ts";

export type VolumeTraits = {
  /** `local`: visible on this machine only; `global`: the same volume on every machine of the driver. */
  readonly scope: "local" | "global";
  /** `volume prune` may take this driver's volumes: it made them itself, and nobody else can reach them. */
  readonly prunable: boolean;
  /** The directory above a mounted volume is the driver's own, for this volume only, on the same filesystem: copy-up stages there, out of sight of containers. */
  readonly ownsParent: boolean;
  /**
   * Somebody else keeps the volumes: there may be some that this engine did not make, options are judged there, and it may
   * be away for a while.
   */
  readonly foreign?: boolean;
  /**
   * What is mounted is served by a program or a machine that may never answer: nobody looks into it except a child process
   * with a deadline.
   */
  readonly remote?: boolean;
  /** Removing a volume leaves its data where they are, on a server or in somebody's directory: a new volume may show them. */
  readonly keepsData?: boolean;
  /** The option `size` is a limit that the kernel or the server keeps. */
  readonly sized?: boolean;
};

/** Something of the machine that a driver cannot do without. */
export type Requirement = {
  /** A program in PATH, or a filesystem type of the kernel. */
  readonly kind: "program" | "filesystem";
  readonly name: string;
  /** What to do when it is missing, as a sentence: `install the package sshfs`. */
  readonly advice: string;
};

/** What making a snapshot or a clone costs: no data at all, no data but every file, or everything. */
export type CopyCost = "constant" | "reflink" | "copy";

/** `createdAt` is RFC 3339. */
export type VolumeSnapshot = { readonly name: string; readonly createdAt: string };

/** What a copy that takes its time does for who asked for it. What costs nothing does none of it. */
export type CopyWork = {
  /** Of data that is kept encrypted: as it is kept. */
  readonly progress?: (progress: CopyProgress) => void;
  /** Ends the copy; nothing of it is left then. */
  readonly signal?: AbortSignal;
  /**
   * Lets the users of the volume stand still until the driver's call settles. The driver calls it once, as late as it can: what it
   * keeps is of the moment at which this resolves. It may wait for a mount or an unmount of the volume, so nothing that these wait
   * for is held meanwhile. Without it a snapshot that somebody writes to meanwhile is of no one moment.
   */
  readonly still?: () => Promise<void>;
};

/**
 * Moments of volumes, kept by the driver. A snapshot ends with its volume. Names follow the rule of volume names. While a copy is
 * made whatever would move or remove the volume, or one of its snapshots, is refused with conflict.
 */
export interface VolumeSnapshots {
  cost(spec: VolumeSpec): Promise<CopyCost>;
  /**
   * There whole or not at all, also after a crash. Throws conflict when the name is taken. Not consistent: somebody wrote while it
   * was copied, and nobody could let him stand still.
   */
  create(spec: VolumeSpec, snapshot: string, work?: CopyWork): Promise<{ readonly consistent: boolean }>;
  /** Oldest first. */
  list(spec: VolumeSpec): Promise<readonly VolumeSnapshot[]>;
  /** Throws not_found for an unknown one. */
  remove(spec: VolumeSpec, snapshot: string): Promise<void>;
  /** The volume's content becomes the snapshot's, which stays. Refused with conflict while the volume is used. */
  restore(spec: VolumeSpec, snapshot: string, work?: Omit<CopyWork, "still">): Promise<void>;
  /**
   * A new volume `to` with the content of `from` as it is now, or of its snapshot, for which nobody stands still. On failure
   * nothing stays.
   */
  clone(
    from: { readonly spec: VolumeSpec; readonly snapshot?: string },
    to: VolumeSpec,
    work?: CopyWork,
  ): Promise<void>;
}

export type VolumeSpec = { readonly name: string; readonly options: Readonly<Record<string, string>> };

export type VolumeDescription = {
  /** Path on the host, or undefined when it is known only while mounted. */
  readonly mountpoint: string | undefined;
  /** RFC 3339. */
  readonly createdAt: string | undefined;
  readonly status: Readonly<Record<string, unknown>> | undefined;
  /** The options of the volume, where the driver has a record of its own. */
  readonly options?: VolumeSpec["options"];
};

export interface VolumeDriver {
  /** The name a user gives with `--driver`. */
  readonly name: string;
  readonly traits: VolumeTraits;
  /** Throws invalid_argument (Docker's texts) when name or options cannot be. Touches nothing. */
  validate(spec: VolumeSpec): void;
  /** Where the options decide: what this volume mounts is served by a program or a machine. Undefined: as the traits say. */
  isRemote?(spec: VolumeSpec): boolean;
  /** Idempotent for the same spec. On failure nothing stays. */
  create(spec: VolumeSpec): Promise<void>;
  /** Unknown name: nothing. Refused with conflict while mounted. */
  remove(spec: VolumeSpec): Promise<void>;
  /** Resolves to the path where the data is, for the use named `use`. The same use twice is one use. */
  mount(spec: VolumeSpec, use: string): Promise<string>;
  /** Ends a use; the last one unmounts. Unknown use: nothing. */
  unmount(spec: VolumeSpec, use: string): Promise<void>;
  /** Resolves when what was written is where the data is kept; for drivers that send it there behind the writer. */
  saved?(spec: VolumeSpec): Promise<void>;
  /** Called once, when every use that outlived the engine is known again: what is mounted and not used is unmounted. */
  settle?(): Promise<void>;
  /** Throws not_found when the driver does not have it (any more). A foreign driver is asked until `signal` aborts. */
  describe(spec: VolumeSpec, signal?: AbortSignal): Promise<VolumeDescription>;
  /** Bytes used, or undefined when the driver cannot say. Run off the event loop, with a deadline. */
  usage(spec: VolumeSpec, signal?: AbortSignal): Promise<number | undefined>;
  /** Names of the volumes that the driver knows on its own. */
  list(signal?: AbortSignal): Promise<readonly string[]>;
  /** What the machine must have; nothing when undefined. */
  readonly requirements?: readonly Requirement[];
  /** Undefined: the driver has no cheaper way than copying, and the store copies. */
  readonly snapshots?: VolumeSnapshots;
  /**
   * Changes a volume's options; whoever mounts it next sees them. Throws conflict while it is used, unless only the size
   * differs. Undefined: the store keeps the options alone.
   */
  update?(spec: VolumeSpec, options: VolumeSpec["options"]): Promise<void>;
  /** Gives an unused volume another name, with all that belongs to it. Undefined: the driver cannot. */
  rename?(spec: VolumeSpec, name: string): Promise<void>;
}

/** Foreign drivers, found by name when somebody asks for one. */
export interface VolumeDriverSource {
  /** The driver of a volume on record, there or not: nothing is asked before a method is called. */
  of(name: string): VolumeDriver;
  /** The driver for a new volume. Throws not_found in Docker's words, or unavailable. */
  open(name: string): Promise<VolumeDriver>;
  /** Those that can be found now, and those that were there before. Never waits for one of them. */
  discover(): Promise<readonly VolumeDriver[]>;
  /** Names of those that have answered. */
  readonly active: readonly string[];
  /** Called once, when every use that outlived the engine is known again. Waits for no driver. */
  settle(): Promise<void>;
}
