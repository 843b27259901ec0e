/**
 * The contract of the runtime: containers as processes. runc (or crun) makes them, conmon watches over each, so that
 * a container, its log and its exit code outlive the daemon. Root filesystem, mounts and records are the caller's.
 *
 * On disk, below the exec root: `<exec-root>/containers/<id>/` is the bundle (`config.json`, conmon's `attach` socket,
 * `ctl` fifo and pid files); `exits/<id>` holds the exit code once the process is gone.
 */

/** OCI runtime spec document (runtime-spec config.md), ready to be written. */
export type OciSpec = Readonly<Record<string, unknown>>;

export type StartOptions = {
  readonly id: string;
  readonly spec: OciSpec;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Keep stdin open when an attached client leaves (`StdinOnce` false). */
  readonly keepStdin: boolean;
  /** Where conmon writes the log (k8s-file format), or undefined for none. */
  readonly logPath: string | undefined;
  /** Bytes after which conmon starts the log anew; undefined: no limit. */
  readonly logSizeMax: number | undefined;
  /** Milliseconds that the runtime may take; one minute when undefined. */
  readonly deadline?: number | undefined;
};

export type ExecOptions = {
  readonly id: string;
  readonly execId: string;
  /** `process` object of the OCI spec. */
  readonly process: Readonly<Record<string, unknown>>;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Kept with the session for whoever finds it after a restart; an object of JSON. */
  readonly note?: object | undefined;
};

/** A session that an earlier runtime started. */
export type FoundExec = {
  readonly execId: string;
  /** 0 when its command has ended. */
  readonly pid: number;
  readonly note: unknown;
  /** Rejects when the runtime closes, or the container is removed, before. */
  readonly exited: Promise<ExitStatus>;
};

export type ExitStatus = {
  readonly code: number;
  readonly oomKilled: boolean /** Milliseconds since the epoch. */;
  readonly at: number;
};

export type OutputChunk = { readonly stream: "stdout" | "stderr"; readonly data: Uint8Array };

/** A client's hold on a process' stdio. Output is live only: what was written before the attach is in the log. */
export type Attachment = AsyncDisposable & {
  /** Ends when the process has ended and everything was delivered. Bounded: a reader that stops is cut off with `overflow`. */
  readonly output: AsyncIterable<OutputChunk>;
  readonly write: (data: Uint8Array) => Promise<void>;
  readonly closeStdin: () => Promise<void>;
};

export type ProcessTable = { readonly titles: readonly string[]; readonly processes: readonly (readonly string[])[] };

export type ContainerStats = {
  readonly cpuTotal: number;
  readonly cpuUser: number;
  readonly cpuSystem: number;
  readonly systemCpu: number;
  readonly onlineCpus: number;
  readonly memoryUsage: number;
  readonly memoryLimit: number;
  readonly memoryStats: Readonly<Record<string, number>>;
  readonly pids: number;
  readonly blkio: readonly {
    readonly major: number;
    readonly minor: number;
    readonly op: string;
    readonly value: number;
  }[];
};

/** cgroup limits; undefined leaves one as it is. Bytes, shares, microseconds; -1 is without limit. */
export type ResourceUpdate = {
  readonly memory?: number | undefined;
  /** Memory and swap together; 0 or undefined with `memory`: twice that. */
  readonly memorySwap?: number | undefined;
  readonly memoryReservation?: number | undefined;
  /** Thousand millionths of a CPU; takes the place of quota and period. */
  readonly nanoCpus?: number | undefined;
  readonly cpuShares?: number | undefined;
  readonly cpuPeriod?: number | undefined;
  readonly cpuQuota?: number | undefined;
  readonly cpusetCpus?: string | undefined;
  readonly cpusetMems?: string | undefined;
  readonly pids?: number | undefined;
  readonly blkioWeight?: number | undefined;
};

export interface Runtime extends AsyncDisposable {
  /** Name and version of the programs, for `docker version`; "unknown" until a program has answered. */
  readonly versions: Readonly<Record<string, string>>;
  /** Makes the container (conmon and `create`): its process exists and waits. On failure nothing stays; the error carries the runtime's own words. */
  create(options: StartOptions): Promise<{ readonly pid: number; readonly attach: () => Promise<Attachment> }>;
  /** Lets the created process run. */
  start(id: string): Promise<void>;
  /** Attaches to a running container's stdio. */
  attach(id: string): Promise<Attachment>;
  /** Runs one more process. `attached` false: output goes nowhere. Resolves when it runs; `not_found`/`invalid_argument` carry codes 126/127 causes. */
  exec(
    options: ExecOptions,
    attached: boolean,
  ): Promise<{
    readonly pid: number;
    readonly attachment: Attachment | undefined;
    readonly exited: Promise<ExitStatus>;
  }>;
  /** Sessions of the container that this runtime did not start and whose end nobody was told. To be asked once. */
  execs(id: string): Promise<readonly FoundExec[]>;
  /** Size of the terminal of a container, or of an exec session. */
  resize(
    id: string,
    execId: string | undefined,
    size: { readonly height: number; readonly width: number },
  ): Promise<void>;
  /** Sends a signal (number) to the first process, or to all. not_found when it is gone. */
  kill(id: string, signal: number, all?: boolean): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  /** Whether its processes stand still, asked of the kernel. Not running: false. */
  frozen(id: string): Promise<boolean>;
  update(id: string, resources: ResourceUpdate): Promise<void>;
  stats(id: string): Promise<ContainerStats>;
  top(id: string, psArguments: readonly string[]): Promise<ProcessTable>;
  /** Exit of the container's first process; resolves at once when it is gone already, also after a daemon restart. */
  exited(id: string): Promise<ExitStatus>;
  /** What is running now, asked of the kernel: pid, or undefined. */
  pid(id: string): Promise<number | undefined>;
  /** Takes away what the runtime keeps of an ended (or half-made) container: state, cgroup, bundle. Idempotent. */
  remove(id: string): Promise<void>;
  /** Ids with a bundle on disk: for start-up's reconciliation. */
  list(): Promise<readonly string[]>;
}
