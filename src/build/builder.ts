/** The contract of the classic builder: a Dockerfile and a context become an image. */
import type { ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";

/** A RUN whose command failed; `exitCode` is the command's, and `docker build` ends with it. */
export class BuildStepError extends EngineError {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super("invalid_argument", message);
    this.exitCode = exitCode;
  }
}

export type BuildOptions = {
  /** Path of the Dockerfile inside the context. */
  readonly dockerfile: string;
  readonly tags: readonly string[];
  readonly buildArgs: Readonly<Record<string, string | null>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly target: string | undefined;
  readonly noCache: boolean;
  readonly remove: boolean;
  readonly forceRemove: boolean;
  readonly cacheFrom: readonly string[];
  readonly networkMode: string;
  readonly extraHosts: readonly string[];
  readonly quiet: boolean;
  readonly memory: number;
  readonly cpuShares: number;
  readonly shmSize: number;
  readonly signal: AbortSignal;
};

/** One JSON message of the build's answer: `{stream}`, `{aux:{ID}}`, `{errorDetail,error}`. */
export type BuildMessage = Readonly<Record<string, unknown>>;

export interface Builder {
  /** `context` is the tar (maybe compressed) that the client sent. Throws what the last message should say. */
  build(
    context: AsyncIterable<Uint8Array>,
    options: BuildOptions,
    tell: (message: BuildMessage) => void,
  ): Promise<ImageId>;
}
