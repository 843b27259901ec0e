/**
 * What `strata check` can find. A *problem* has a kind from this closed list, the object it is about, what was seen,
 * and what `--repair` does about it; what nobody can bring back is *lost*: repair names it and leaves it.
 */
import type { Mounts } from "../base/mount.ts";
import type { Statement } from "../metadata/database.ts";
import type { LayerRef, StorageDriver } from "../storage-driver/driver.ts";

/** Kind -> what it means. docs/check.md has a row for each. */
export const problemKinds = {
  "database-damaged": "SQLite's own check of the metadata fails",
  "layer-data-missing": "a layer is recorded, and its data is not there",
  "layer-data-unknown": "data of a storage driver that no record names",
  "layer-file-missing": "a file of a layer is gone",
  "layer-content-changed": "a layer's tar, made again, has another digest",
  "layer-attributes-changed":
    "type, mode, owner, extended attribute, link target or device of a file differs from the layer's tar",
  "layer-tree-changed": "a layer's tree has or lacks something that its tar does not explain",
  "layer-recipe-missing": "a layer's recipe is gone, so that its tar cannot be made again",
  "layer-recipe-damaged": "a layer's recipe is truncated or changed",
  "layer-recipe-unknown": "a recipe that no record names",
  "layer-record-damaged": "what a layer's record says contradicts itself",
  "layer-parent-missing": "the layer below is not recorded",
  "layer-half-made": "a layer or a container's layer that was being made or removed",
  "layer-unused": "a layer that no image, container or other layer needs",
  "layer-owner-missing": "a layer is held for an image that is gone",
  "size-differs": "a recorded size is not what was measured",
  "image-config-damaged": "an image's config has another digest than its id, or cannot be read",
  "image-layer-missing": "layers of an image are not recorded for any storage driver",
  "image-layer-not-held": "an image does not hold its own layers, so that a removal could take them",
  "reference-without-image": "a name points at an image that is gone",
  "container-record-damaged": "a container's record cannot be read",
  "container-image-missing": "the image of a container is gone",
  "container-layer-missing": "a container has no writable layer, or nothing below it",
  "container-data-missing": "the directory of a container's writable layer is gone",
  "container-data-damaged": "what a container's writable layer holds cannot be read",
  "container-unknown": "a writable layer or a folder of a container that no record names",
  "volume-data-missing": "a volume is recorded, and its directory is not there",
  "volume-unknown": "a volume's directory that no record names",
  "volume-half-made": "a volume that was being made or removed",
  "volume-snapshot-missing": "a full copy of a volume is recorded, and its folder is not there",
  "volume-reference-dangling":
    "a volume is held for a container that is gone, or a container holds a volume that is gone",
  leftover: "staging, a mark or a mount that an operation left behind, or something strange in the trash",
} as const;

export type ProblemKind = keyof typeof problemKinds;

/** What `--repair` does; `statements` come last, so that a record stays until its data is gone. */
export type Mend = {
  /** Repair does it only together with `--force`. */
  readonly force?: boolean;
  readonly unmount?: string;
  /** Host path that goes with everything in it. */
  readonly remove?: string;
  /** Data that the driver discards, and whether its trash is emptied. */
  readonly discard?: { readonly driver: StorageDriver; readonly id: string };
  readonly sweep?: StorageDriver;
  readonly createWritable?: {
    readonly driver: StorageDriver;
    readonly layer: LayerRef;
    /** The container's own `--storage-opt`. */
    readonly options: Readonly<Record<string, string>>;
  };
  readonly run?: () => Promise<void>;
  readonly statements?: readonly Statement[];
};

export type Problem = {
  readonly kind: ProblemKind;
  /** What it is about: "layer sha256:...", "image busybox:latest (sha256:...)". */
  readonly object: string;
  readonly detail: string;
  /** What repair does, or what a person can do where it does nothing. */
  readonly repair: string;
};

export type Finding = Problem & { readonly mend?: Mend };

/** What was looked at. */
export type Checked = {
  layers: number;
  /** Bytes of tars that were made again. */
  bytes: number;
  /** Layers that could not be verified because a layer below them is gone. */
  unverified: number;
  images: number;
  containers: number;
  volumes: number;
  drivers: readonly string[];
};

/** What was removed and is not deleted yet; the daemon's sweeper does that, and so does a repair. */
export type AwaitingRemoval = { readonly trees: number; readonly bytes: number };

export type CheckReport = {
  readonly problems: readonly (Problem & { readonly repaired?: boolean; readonly failure?: string })[];
  readonly awaitingRemoval: AwaitingRemoval;
  readonly checked: Readonly<Checked>;
};

/** A directory where something is mounted until it is disposed. */
export type MountView = (mounts: Mounts) => Promise<AsyncDisposable & { readonly path: string }>;
