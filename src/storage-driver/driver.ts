/**
 * The contract of a storage driver. A driver keeps trees of files under opaque ids and describes how to see them; it
 * knows nothing of images, digests, tars, parents' states or counts: those live in `layer/`, which hands in the whole
 * chain below with every call, so that a driver keeps no record of its own that could be lost or disagree.
 *
 * Words: a *layer* is a tree fixed by `commit`; a *writable* is a container's thin layer; *parents* are layer ids from
 * the direct parent down to the lowest; a *stage* is a layer that is being filled.
 *
 * Life of an id: `stage` -> filled through its mounts -> `commit` | `remove`; `createWritable` -> used -> `remove`.
 * No call holds a mount: `mounts` only describes. Every call is idempotent where it says so. Durability is the
 * caller's: it calls `syncfs` on `home` before it records a layer; what `list` tells and no record names is removed.
 */
import type { Mounts } from "../base/mount.ts";
import type { Pool } from "../host/pool.ts";

/** One layer and what is below it, from the direct parent down. */
export type LayerRef = { readonly id: string; readonly parents: readonly string[] };

/** Declared differences between drivers; nobody asks a driver's name to decide anything. */
export type Traits = {
  /** `diff`: a layer holds only what it changes; `whole`: a layer holds the full tree. */
  readonly keeps: "diff" | "whole";
  /** How many layers may stand under a writable one. */
  readonly maxParents: number;
  /** Trees made from a parent share unchanged blocks with it, so a child costs what it changes. */
  readonly sharesBlocks: boolean;
  /** Names of the `--storage-opt` keys that a container may give; "size" is the contract of size-limit.ts. */
  readonly containerOptions: readonly string[];
  /**
   * What a program shows as one tree: a change gives the directories above it another time, and takes setuid and setgid
   * from what is copied for it. Who fills a stage puts that back; a container sees it.
   */
  readonly forgetsAttributes?: boolean;
  /** Modification times are kept without their fractions of a second. */
  readonly wholeSeconds?: boolean;
};

/** How a stage is filled. A tree is mounted by the caller and filled as an ordinary directory. */
export type Stage = {
  readonly form: "tree";
  readonly mounts: Mounts;
  /** Set where xattrs with the prefix `from` must be stored with the prefix `to` to be seen as `from` in a mount. */
  readonly escapeXattrs?: { readonly from: string; readonly to: string };
  /** Prefixes of xattrs that the driver obeys and cannot hide: who fills the stage refuses a tar that brings one. */
  readonly refusedXattrs?: readonly string[];
};

/** Where a writable layer's changes can be read without comparing trees. */
export type ChangesDirectory = {
  /** Absolute, or below the place where `mounts` were mounted. */
  readonly path: string;
  /** Set where the directory is in a filesystem of its own: what shows it, beside any other mount of the layer. */
  readonly mounts?: Mounts;
  /** overlay: whiteouts are 0:0 character devices (or the xattr forms), opaque directories carry an xattr. */
  readonly dialect: "overlay";
};

/**
 * How a layer says, in files of its own, what it takes from the layers below: a whiteout is the character device 0:0,
 * an opaque directory has this attribute.
 */
export type DiffMarks = {
  readonly dialect: "overlay";
  readonly opaque: { readonly attribute: string; readonly value: string };
};

export interface StorageDriver extends AsyncDisposable {
  /** Docker's name of the driver. */
  readonly name: string;
  /** The folder that holds everything the driver keeps; `syncfs` on it makes all of it durable. */
  readonly home: string;
  readonly traits: Traits;

  /**
   * Optional, for drivers whose layers are diffs that may stand over any parents, whatever they were staged over: how
   * whoever fills a stage without parents writes whiteouts and opaque directories.
   */
  readonly diffMarks?: DiffMarks;

  /** Starts a layer over `parents`. The id is new. On failure nothing stays. */
  stage(layer: LayerRef): Promise<Stage>;
  /** Fixes a stage: from now on read-only and usable as a parent. The stage is unmounted already. Not durable by itself. */
  commit(layer: LayerRef): Promise<void>;
  /** Makes a container's layer over `parents`. `options` are those of `traits.containerOptions`, checked by the driver. */
  createWritable(layer: LayerRef, options: Readonly<Record<string, string>>): Promise<void>;
  /**
   * Optional: makes the writable `layer` exactly what the writable `source` is at this moment, sharing blocks where the
   * filesystem can. Both have the same parents, and nobody changes the source meanwhile; `options` as for
   * `createWritable`. False, with nothing made, where this one cannot be copied so: then it is done through mounts.
   */
  cloneWritable?(source: LayerRef, layer: LayerRef, options: Readonly<Record<string, string>>): Promise<boolean>;
  /** The view of a layer (always read-only) or of a writable (read-write). Mounts nothing; may mend an empty writable that a power cut took. */
  mounts(layer: LayerRef, kind: "layer" | "writable"): Promise<Mounts>;
  /**
   * Optional. A container is about to use its writable, which is not mounted: what the driver wants to know of beforehand
   * is recorded, durably. Called for every mount that a container gets, not for a look at a stopped one.
   */
  beforeUse?(layer: LayerRef): Promise<void>;
  /** Optional. Nobody uses the writable any more, it is unmounted: what was promised less is made good. Idempotent, late at times. */
  afterUse?(layer: LayerRef): Promise<void>;
  /** Where only the changes of `layer` stand, or undefined where trees must be compared. One lookup on disk at most. */
  changes(layer: LayerRef): ChangesDirectory | undefined;
  /**
   * Optional, for drivers that keep whole trees: paths at which a writable may differ from its direct parent, found
   * without walking the trees (clean paths, one character per byte, "" for the root). What is written until the call is
   * seen. A path too many is a look in vain; but every name of an inode that changed is listed, and every directory
   * whose names did, so that what is not listed and is the same inode in both trees is the same. Undefined where that
   * cannot be told: then everything is compared.
   */
  candidates?(layer: LayerRef, signal?: AbortSignal): Promise<readonly string[] | undefined>;
  /** Takes a layer, writable or stage away. It leaves the driver's sight at once and is deleted later. Unknown id: nothing. */
  remove(id: string): Promise<void>;
  /** Every id on disk: layers, writables and stages, also half-made ones. */
  list(): Promise<readonly string[]>;
  /** Deletes what `remove` set aside; returns how many trees it deleted. Safe beside every other call. */
  sweep(signal?: AbortSignal): Promise<number>;
  /** Rows of `docker info`, with Docker's keys and order. */
  status(): Promise<readonly (readonly [string, string])[]>;
  /** `GraphDriver.Data` of `docker inspect`; absolute paths. */
  describe(layer: LayerRef, kind: "layer" | "writable"): Readonly<Record<string, string>>;
}

/** What the engine lends to a driver. */
export type DriverContext = {
  /** For walks: copying and deleting trees. */
  readonly pool: Pool;
};

/** What selection needs to know before a driver is opened. */
export type DriverFactory = {
  readonly name: string;
  /** Resolves to undefined when the driver can work at `home`, else to one sentence that says why not. Leaves nothing behind. `options` as for `open`; most need none to tell. */
  probe(home: string, options?: Readonly<Record<string, string>>): Promise<string | undefined>;
  /** `options` are the daemon's `--storage-opt` entries; an unknown one is an invalid_argument that names it. */
  open(home: string, options: Readonly<Record<string, string>>, context: DriverContext): Promise<StorageDriver>;
};
