/** How a driver says which program mounts its volumes, with which words, secrets and folders. */
import type { EngineError } from "../base/errors.ts";
import type { ServerCommand } from "../host/mount-server.ts";
import type { Pool } from "../host/pool.ts";
import type { VolumeSpec } from "./driver.ts";

export type MountProgram = ServerCommand & {
  /** It stays in the foreground as long as the mount stands; else it mounts and ends. */
  readonly serves: boolean;
  /** What its last words mean; they are shown as they are when undefined. */
  readonly explain?: (said: string) => EngineError | undefined;
};

export type MountContext = {
  readonly spec: VolumeSpec;
  /** The volume's own folder, as long as the volume lives: room for a cache or for what is encrypted. */
  readonly folder: string;
  /** Empty, 0700, on disk, gone after the last unmount: no place for secrets. */
  readonly run: string;
  /** The secret that an option refers to; `public` for what may be read by everybody. */
  readonly secret: (option: string, access?: "secret" | "public") => Promise<string>;
  /** The path of a secret that has just been read, for programs that read it themselves. */
  readonly secretPath: (option: string, access?: "secret" | "public") => Promise<string>;
  readonly pool: Pool;
  readonly signal: AbortSignal | undefined;
};

export type ProgramKind = {
  /** Pure; throws invalid_argument that names the option. */
  readonly check: (options: VolumeSpec["options"]) => void;
  /** Names of the processes that serve a mount; none when the kernel does. */
  readonly servers: readonly string[];
  /** Makes what a new volume needs, in its folder, which is not named yet. */
  readonly prepare?: (context: MountContext) => Promise<void>;
  readonly mount: (context: MountContext, target: string) => Promise<MountProgram>;
  /** What the program still keeps to itself and would take with it, in words ("3 files are ..."); undefined when nothing. */
  readonly unsaved?: (context: MountContext) => Promise<string | undefined>;
  /** Name of a folder in the volume's that is worth nothing when the volume is not used and all is saved. */
  readonly scratch?: string;
  /** Milliseconds that the end of the last use waits until all is saved; what takes longer goes on behind. */
  readonly patience?: number;
  /**
   * Milliseconds that the program may take, once its mount is gone, to save what it has and end by itself. Whoever wants
   * the volume meanwhile waits a little, and is told. Undefined: all is saved before, and the program ends at once.
   */
  readonly saving?: number;
  /** Bytes of data, mounted or not; unknown when undefined. */
  readonly usage?: (context: MountContext) => Promise<number | undefined>;
  /** Milliseconds for the program to mount. */
  readonly deadline?: number;
};
