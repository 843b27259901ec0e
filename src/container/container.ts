/**
 * Containers as the engine knows them: the record (what survives), the state (what dies with the boot) and the contract
 * of the container service. Member names of `HostConfig` are the Engine API's, because they are stored and shown as given.
 */
import type { Change } from "../base/change.ts";
import type { ImageId } from "../base/digest.ts";
import type { MountPoint, MountRequest } from "../base/mount-point.ts";
import type { RunConfig } from "../base/oci.ts";
import type { Attachment, ContainerStats, ProcessTable } from "../runtime/runtime.ts";
import type { VolumeUsers } from "../volume/users.ts";

export type { MountPoint, MountPointType, MountRequest } from "../base/mount-point.ts";

export type RestartPolicy = {
  readonly Name: "" | "no" | "always" | "on-failure" | "unless-stopped";
  readonly MaximumRetryCount: number;
};

/** The members that the engine acts on; others are refused at the API unless they are empty. */
export type HostConfig = {
  readonly Binds?: readonly string[] | null;
  readonly Mounts?: readonly MountRequest[] | null;
  readonly Tmpfs?: Readonly<Record<string, string>> | null;
  readonly VolumesFrom?: readonly string[] | null;
  readonly VolumeDriver?: string;
  readonly NetworkMode?: string;
  readonly RestartPolicy?: RestartPolicy;
  readonly AutoRemove?: boolean;
  readonly CapAdd?: readonly string[] | null;
  readonly CapDrop?: readonly string[] | null;
  readonly Privileged?: boolean;
  readonly ReadonlyRootfs?: boolean;
  readonly SecurityOpt?: readonly string[] | null;
  readonly Init?: boolean | null;
  readonly StorageOpt?: Readonly<Record<string, string>> | null;
  readonly Memory?: number;
  readonly MemorySwap?: number;
  readonly MemoryReservation?: number;
  readonly NanoCpus?: number;
  readonly CpuShares?: number;
  readonly CpuPeriod?: number;
  readonly CpuQuota?: number;
  readonly CpusetCpus?: string;
  readonly CpusetMems?: string;
  readonly PidsLimit?: number | null;
  readonly ShmSize?: number;
  readonly ExtraHosts?: readonly string[] | null;
  readonly Dns?: readonly string[] | null;
  readonly DnsSearch?: readonly string[] | null;
  readonly DnsOptions?: readonly string[] | null;
  readonly GroupAdd?: readonly string[] | null;
  readonly OomScoreAdj?: number;
  readonly Sysctls?: Readonly<Record<string, string>> | null;
  readonly Ulimits?: readonly { readonly Name: string; readonly Soft: number; readonly Hard: number }[] | null;
  readonly Devices?:
    | readonly { readonly PathOnHost: string; readonly PathInContainer: string; readonly CgroupPermissions: string }[]
    | null;
  readonly LogConfig?: { readonly Type: string; readonly Config: Readonly<Record<string, string>> | null };
  readonly MaskedPaths?: readonly string[] | null;
  readonly ReadonlyPaths?: readonly string[] | null;
  readonly CgroupParent?: string;
  readonly IpcMode?: string;
  readonly PidMode?: string;
  readonly UTSMode?: string;
  readonly UsernsMode?: string;
  readonly CgroupnsMode?: string;
  readonly Runtime?: string;
  readonly ContainerIDFile?: string;
  /** Everything else that the client sent, kept to be shown again. */
  readonly [other: string]: unknown;
};

export type ContainerStatus = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";

export type ContainerState = {
  readonly status: ContainerStatus;
  readonly pid: number;
  readonly exitCode: number;
  readonly error: string;
  readonly oomKilled: boolean;
  /** RFC 3339; "0001-01-01T00:00:00Z" when it never happened. */
  readonly startedAt: string;
  readonly finishedAt: string;
};

export type Container = {
  readonly id: string;
  /** Without the leading slash. */
  readonly name: string;
  /** RFC 3339. */
  readonly created: string;
  readonly imageId: ImageId | undefined;
  /** The image as the user wrote it. */
  readonly image: string;
  /** argv[0] and the rest, after entrypoint and command are merged. */
  readonly path: string;
  readonly args: readonly string[];
  readonly config: RunConfig;
  readonly hostConfig: HostConfig;
  readonly mounts: readonly MountPoint[];
  /** Network name -> endpoint settings as given. */
  readonly networks: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly restartCount: number;
  readonly state: ContainerState;
  readonly logPath: string;
  readonly hostnamePath: string;
  readonly hostsPath: string;
  readonly resolvConfPath: string;
  /** See {@link NewContainer}. */
  readonly transient?: boolean | undefined;
};

export type NewContainer = {
  readonly name: string | undefined;
  /** Belongs to an operation of the engine itself (a build step): when the engine dies under it, the next start removes it. */
  readonly transient?: boolean;
  readonly config: RunConfig;
  readonly hostConfig: HostConfig;
  readonly networks: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
};

/** Filters of `ps`: key -> values, as the API sends them. */
export type Filters = ReadonlyMap<string, readonly string[]>;

export type ListOptions = { readonly all: boolean; readonly limit?: number | undefined; readonly filters: Filters };

/** Bytes; `rootFs` is `rw` and the image's layers. */
export type ContainerSize = { readonly rw: number; readonly rootFs: number };

export type LogOptions = {
  readonly follow: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Number of last lines; undefined: all. */
  readonly tail: number | undefined;
  /** Milliseconds since the epoch. */
  readonly since: number | undefined;
  readonly until: number | undefined;
  readonly timestamps: boolean;
  readonly signal?: AbortSignal;
};

export type LogLine = { readonly stream: "stdout" | "stderr"; readonly data: Uint8Array };

export type NewExec = {
  readonly command: readonly string[];
  readonly env: readonly string[];
  readonly user: string | undefined;
  readonly workingDir: string | undefined;
  readonly tty: boolean;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly privileged: boolean;
  readonly detachKeys: string | undefined;
};

export type Exec = NewExec & {
  readonly id: string;
  readonly containerId: string;
  readonly running: boolean;
  readonly exitCode: number | undefined;
  readonly pid: number;
};

export type WaitCondition = "not-running" | "next-exit" | "removed";

export type PathStat = {
  readonly name: string;
  readonly size: number /** Go's os.FileMode bits. */;
  readonly mode: number;
  readonly mtime: string;
  readonly linkTarget: string;
};

export type CommitOptions = {
  readonly reference: string | undefined;
  readonly author: string;
  readonly comment: string;
  readonly pause: boolean;
  /** Replaces members of the container's config. */
  readonly config: RunConfig | undefined;
  /** Dockerfile instructions (`--change`). */
  readonly changes: readonly string[];
};

/** What becomes of anonymous volumes: a copy of their content, new ones as a create makes them, or the very same. */
export type ForkVolumes = "copy" | "new" | "share";

export type ForkOptions = { readonly name: string | undefined; readonly volumes: ForkVolumes };

/** What the API, the builder and the library ask of containers. Ids may be full ids, unique prefixes or names unless said otherwise. */
export interface ContainerService extends AsyncDisposable {
  /** Who uses which volume, for the volume store's verbs. */
  readonly volumeUsers: VolumeUsers;
  create(request: NewContainer): Promise<{ readonly id: string; readonly warnings: readonly string[] }>;
  /** Throws not_found "No such container: x". */
  get(nameOrId: string): Container;
  list(options: ListOptions): readonly Container[];
  size(nameOrId: string): Promise<ContainerSize>;
  /** Not an error when it runs already: returns false. */
  start(nameOrId: string): Promise<boolean>;
  /** `timeout` seconds, -1 for ever. Returns false when it was not running. */
  stop(
    nameOrId: string,
    options: { readonly signal?: string | undefined; readonly timeout?: number | undefined },
  ): Promise<boolean>;
  restart(
    nameOrId: string,
    options: { readonly signal?: string | undefined; readonly timeout?: number | undefined },
  ): Promise<void>;
  kill(nameOrId: string, signal: string | undefined): Promise<void>;
  pause(nameOrId: string): Promise<void>;
  unpause(nameOrId: string): Promise<void>;
  rename(nameOrId: string, name: string): Promise<void>;
  update(nameOrId: string, changes: HostConfig): Promise<readonly string[]>;
  remove(nameOrId: string, options: { readonly force: boolean; readonly volumes: boolean }): Promise<void>;
  prune(filters: Filters): Promise<{ readonly removed: readonly string[]; readonly reclaimed: number }>;
  /** Registers before it returns the promise, so that no exit is missed. */
  wait(nameOrId: string, condition: WaitCondition): Promise<{ readonly exitCode: number; readonly error?: string }>;
  /** Live stdio. On a container that was created but not started it attaches as soon as it starts. */
  attach(
    nameOrId: string,
    streams: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean },
  ): Promise<Attachment>;
  logs(nameOrId: string, options: LogOptions): AsyncIterable<LogLine>;
  resize(nameOrId: string, size: { readonly height: number; readonly width: number }): Promise<void>;
  top(nameOrId: string, psArguments: readonly string[]): Promise<ProcessTable>;
  stats(nameOrId: string): Promise<ContainerStats>;
  changes(nameOrId: string): Promise<readonly Change[]>;
  /** The whole filesystem as a plain tar. */
  export(nameOrId: string, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  statPath(nameOrId: string, path: string): Promise<PathStat>;
  /** `docker cp` out: stat and a tar of what is at `path`. */
  readArchive(
    nameOrId: string,
    path: string,
    signal?: AbortSignal,
  ): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }>;
  /** `docker cp` in. The tar may be compressed. */
  writeArchive(
    nameOrId: string,
    path: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyOwner: boolean },
  ): Promise<void>;
  commit(nameOrId: string, options: CommitOptions): Promise<ImageId>;
  /**
   * A second container with the same config and the same content, not started. A running one stands still while its
   * layer (and the volumes that are copied) are; it is not changed otherwise.
   */
  fork(nameOrId: string, options: ForkOptions): Promise<{ readonly id: string }>;
  createExec(nameOrId: string, request: NewExec): Promise<string>;
  getExec(execId: string): Exec;
  /** `attached` false (`-d`): no attachment. */
  startExec(
    execId: string,
    options: { readonly attached: boolean; readonly tty: boolean },
  ): Promise<Attachment | undefined>;
  resizeExec(execId: string, size: { readonly height: number; readonly width: number }): Promise<void>;
  /** Containers that use an image, for `rmi`. */
  usersOf(imageId: ImageId): readonly { readonly id: string; readonly running: boolean }[];
}
