/**
 * The contract of the layer store: content-addressed read-only layers and containers' writable layers over one storage
 * driver. A layer is known by its chain ID and means what its tars say when applied in order, whatever the driver.
 *
 * States: `staging` (intent recorded, may be half-made) -> `ready` (durable, every byte verified) -> `removing`.
 * Start-up removes what is not ready, both ways: records without data and data without records.
 * References are rows, not counters: a layer stays while an owner or a child layer names it.
 */
import type { Change } from "../base/change.ts";
import type { ChainId, DiffId } from "../base/digest.ts";
import type { Statement, TransactOptions } from "../metadata/database.ts";
import type { ChangesDirectory, Stage } from "../storage-driver/driver.ts";

export type LayerInfo = {
  readonly chainId: ChainId;
  readonly diffId: DiffId;
  readonly parent: ChainId | undefined;
  /** Bytes of the regular files that the layer adds (each inode once): what `docker history` shows. */
  readonly size: number;
  /** Bytes of its tar. */
  readonly tarSize: number;
  /** The same for layers that share one unpacked tar: its bytes are on disk once. */
  readonly content: string;
};

/** A layer that is registered but not yet acknowledged: `publish` makes it so together with other statements. */
export type PendingLayer = LayerInfo & {
  /** True when the layer existed already and nothing was unpacked. */
  readonly existed: boolean;
};

export type RegisterOptions = {
  /** Refused with data_loss when the tar's digest differs. */
  readonly expected?: DiffId;
  readonly signal?: AbortSignal;
};

/** A layer's tar, uncompressed. */
export type LayerTar = AsyncIterable<Uint8Array> & {
  /** The same tar, while what it describes is put into an empty tree by another way than through the tar. */
  readonly copyInto?: (tree: FilledTree) => AsyncIterable<Uint8Array>;
};

/**
 * The tree's path, how attributes are kept in it (see Stage in storage-driver/driver.ts), and files that whoever reads the
 * tar fills (archive/open-files.ts).
 */
export type FilledTree = { readonly root: string; readonly openFiles: SharedArrayBuffer } & Pick<
  Stage,
  "escapeXattrs" | "refusedXattrs"
>;

/** A directory where a filesystem is mounted until it is disposed. */
export type MountedTree = AsyncDisposable & { readonly path: string };

/** A tar that was unpacked before its parent is known; `register` with its diff ID as `expected` takes it. Given back when disposed. */
export type PreparedLayer = AsyncDisposable & { readonly diffId: DiffId };

export interface LayerStore extends AsyncDisposable {
  /** True where {@link prepare} unpacks. */
  readonly preparesLayers: boolean;
  /** Unpacks a tar ahead of its parents, so that the layers of an image unpack side by side. Refused where the driver keeps whole trees. */
  prepare(tar: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<PreparedLayer>;
  /** True when a layer with this tar is here under whatever parent and need not be unpacked again. */
  hasDiff(diffId: DiffId): boolean;
  /**
   * Unpacks an uncompressed layer tar over `parent`, hashing as it goes. Durable only after {@link publish}; until then the
   * store holds a lease on it (disposed by `publish` or `abandon`), so that nothing collects it. The same chain being
   * registered twice at once is unpacked once.
   */
  register(parent: ChainId | undefined, tar: LayerTar, options?: RegisterOptions): Promise<PendingLayer>;
  /** Makes pending layers durable (one sync) and, in one transaction, ready, together with `statements` (an image's record and its references). */
  publish(layers: readonly PendingLayer[], statements: readonly Statement[]): Promise<void>;
  /** Gives up pending layers of a failed operation; layers that others use stay. */
  abandon(layers: readonly PendingLayer[]): Promise<void>;

  find(chainId: ChainId): LayerInfo | undefined;
  /** The layers of a chain, lowest first. Throws not_found. */
  chain(top: ChainId): readonly LayerInfo[];
  list(): readonly LayerInfo[];
  /** Statements that let `owner` ("image:<id>", "container:<id>") hold or release a chain; run them inside the owner's own transaction. */
  holdStatements(owner: string, top: ChainId): readonly Statement[];
  releaseStatements(owner: string): readonly Statement[];
  /** Statements that let `owner` hold what `other` holds. */
  shareStatements(owner: string, other: string): readonly Statement[];
  /** Removes every layer that no owner, lease or child holds; called after a release. Returns the layers that went. */
  collect(): Promise<readonly LayerInfo[]>;
  /** The layer's tar, bit for bit as it was registered (its digest is the diff ID, verified while streaming). */
  tar(chainId: ChainId): AsyncIterable<Uint8Array>;
  /** A read-only view of a layer's whole tree. */
  mountLayer(chainId: ChainId): Promise<MountedTree>;

  /** Bytes of removed layers and writables that are not deleted yet; nothing is walked for it. */
  readonly removedBytes: number;

  /** Makes a container's writable layer (and its image's init layer, once). `top` undefined: an empty root. */
  createWritable(id: string, top: ChainId | undefined, options: WritableOptions): Promise<void>;
  /**
   * Makes `id` exactly what the writable layer `source` is at this moment; nobody may change that meanwhile, which is the
   * caller's to see to. Sharing blocks where the driver can.
   */
  forkWritable(source: string, id: string, options: WritableOptions): Promise<void>;
  /** Mounts the writable layer and returns where. Mounting twice gives the same path, counted by `holder`. Survives a daemon restart: the same call finds the mount again. */
  mountWritable(id: string, holder: string): Promise<string>;
  /** Gives a holder's use back; the last one unmounts. Unknown holder: nothing. */
  unmountWritable(id: string, holder: string): Promise<void>;
  /** Record goes first (inside `statements`' transaction), then the data. Idempotent. */
  removeWritable(id: string, statements: readonly Statement[], options?: TransactOptions): Promise<void>;
  /** Bytes that the container added or changed. Exact as of the call: walks in a worker while mounted, recorded figure otherwise. */
  writableSize(id: string): Promise<number>;
  /** Changes against the image, sorted by path; what the engine itself put there is not among them. */
  changes(id: string): Promise<readonly Change[]>;
  /** The changes as a layer tar (OCI whiteouts), for commit. */
  changesTar(id: string, signal?: AbortSignal): LayerTar;
  /** For copying a container's tree elsewhere (archive/match-tree.ts); it must not change meanwhile. */
  viewWritable(id: string): Promise<WritableView>;
  /** Where the driver can say it without comparing: the directory of changes. */
  changesDirectory(id: string): ChangesDirectory | undefined;
  /** `GraphDriver.Data` of a writable layer, or of an image's top layer. */
  describeWritable(id: string): Readonly<Record<string, string>>;
  describeLayer(chainId: ChainId): Readonly<Record<string, string>>;
  readonly driverName: string;
  driverStatus(): Promise<readonly (readonly [string, string])[]>;
}

/** Trees that are mounted until they are disposed. */
export type WritableView = AsyncDisposable & {
  readonly source: string;
  /** What it began as. */
  readonly base: string;
  /** Holds all that differs, where the driver keeps that apart. */
  readonly upper: string | undefined;
  /** Paths that may differ, where the driver can tell. */
  readonly candidates: readonly string[] | undefined;
};

export type WritableOptions = {
  /** `--storage-opt` of the container. */
  readonly storageOptions: Readonly<Record<string, string>>;
  /** Joined to the transaction that makes the writable layer ready: the container's own record. */
  readonly statements: readonly Statement[];
  /** What it begins with: a layer tar over image and init layer. It is there, synced, before the layer is ready. */
  readonly changes?: AsyncIterable<Uint8Array>;
  /** Changes the mounted tree before anybody knows of it. */
  readonly fill?: (tree: string) => Promise<void>;
  /** False for what start-up would remove anyway: a power cut may take it (see TransactOptions). */
  readonly durable?: boolean;
};
