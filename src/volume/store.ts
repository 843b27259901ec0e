/**
 * The contract of the volume store: names, options, labels and references of volumes over many drivers. References are
 * rows written with the container that makes them, so that they are right after any crash.
 */
import type { Statement } from "../metadata/database.ts";
import type { VolumeUsers } from "./users.ts";
import type { VolumeVerbs } from "./verbs.ts";

export type Volume = {
  readonly name: string;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** Made without a name for one container: `rm -v` and a plain prune take it. */
  readonly anonymous: boolean;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly mountpoint: string;
  readonly scope: "local" | "global";
  /** What a foreign driver says about it, for `inspect`. */
  readonly status?: Readonly<Record<string, unknown>>;
};

export type NewVolume = {
  /** Undefined: 64 random hex digits, and anonymous. */
  readonly name?: string | undefined;
  readonly driver?: string | undefined;
  readonly options?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  /** RFC 3339; now, unless it came from elsewhere. */
  readonly createdAt?: string;
  /** Puts the first content into `path`. The volume is there, with the content on disk, once this has resolved, or not at all. */
  readonly fill?: (path: string) => Promise<void>;
};

export type RemoveOptions = {
  /** Ignores an unknown name, and a foreign driver's failure. */
  readonly force: boolean;
  /** Its snapshots go with it. */
  readonly snapshots?: boolean;
};

export type VolumeFilters = ReadonlyMap<string, readonly string[]>;
export type PrunedVolumes = { readonly removed: readonly string[]; readonly reclaimed: number };
export type VolumeList = { readonly volumes: readonly Volume[]; readonly warnings: readonly string[] };

/** One driver, as a user who looks for one sees it. */
export type VolumeDriverState = {
  readonly name: string;
  readonly scope: "local" | "global";
  /** The option `size` is a limit that is kept. */
  readonly sized: boolean;
  /** It makes snapshots itself. */
  readonly snapshots: boolean;
  /** A plugin from outside. */
  readonly foreign: boolean;
  /** What this machine lacks and what to do, as a sentence; undefined when it is ready. */
  readonly missing: string | undefined;
};

export interface VolumeStore {
  /** Existing name with the same driver: that volume, options ignored (Docker's rule); other driver: conflict. `created` tells which. */
  create(volume: NewVolume): Promise<Volume & { readonly created: boolean }>;
  /** As its driver sees it now; one that only a foreign driver knew is on record from then on. */
  get(name: string): Promise<Volume>;
  /** On record. */
  find(name: string): Volume | undefined;
  /** Filters dangling, name, driver, label; others are invalid_argument. */
  list(filters?: VolumeFilters): Promise<VolumeList>;
  /** conflict "volume is in use - [ids]" while referenced, and while it has snapshots unless they go with it. */
  remove(name: string, options: RemoveOptions): Promise<void>;
  /** Returns names removed and bytes given back. `all` false: anonymous volumes only. */
  prune(filters: VolumeFilters): Promise<PrunedVolumes>;
  /** Containers that use a volume. */
  references(name: string): readonly string[];
  /** Rows for the container's own transactions. */
  holdStatements(container: string, names: readonly string[]): readonly Statement[];
  releaseStatements(container: string): readonly Statement[];
  /** Path of the data for the use `use` of `name`. The events `mount` and `unmount` are the user's, who knows where. */
  mount(name: string, use: string): Promise<string>;
  /** As `mount`, for a use that outlived the engine: whoever serves the volume is not asked, and not waited for. */
  retake(name: string, use: string): Promise<string>;
  unmount(name: string, use: string): Promise<void>;
  /** Whoever serves the volume's data may never answer: only children with a deadline look into it. Unknown: false. */
  isRemote(name: string): boolean;
  /** Runs what looks into a remote volume: refused at once while its server does not answer, and its time-out is noted. */
  asking<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** Fills an empty volume with `source`'s tree (attributes of the root too), under the volume's lock, atomically, repeatable after a crash. */
  copyUp(name: string, source: { readonly root: string; readonly path: string }): Promise<void>;
  /** Bytes in a volume, -1 when unknown. */
  usage(name: string): Promise<number>;
  /** Called once, when every container that outlived the engine has its volumes again: what nobody uses is unmounted. */
  settle(): Promise<void>;
  readonly drivers: readonly string[];
  /** Every driver and whether this machine has what it needs, looked for now. */
  driverStates(): Promise<readonly VolumeDriverState[]>;
  /** What Strata does beyond Docker's words; `users` knows the containers. */
  verbs(users: VolumeUsers): VolumeVerbs;
}
