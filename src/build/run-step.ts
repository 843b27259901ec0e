/**
 * RUN: a container over the image so far runs the command; what it changed becomes the step's layer. The container goes
 * on every path, and an abort kills it.
 */
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import type { LogLine } from "../container/container.ts";
import { jsonWords } from "../image/change-words.ts";
import type { PendingLayer } from "../layer/store.ts";
import { BuildStepError } from "./builder.ts";
import type { Instruction } from "./parse-dockerfile.ts";
import { type Build, say, shortId } from "./parts.ts";
import type { StageState } from "./stage-state.ts";

export type RunCommand = {
  /** argv of the process. */
  readonly words: readonly string[];
  /** The same as history and cache know it: `|N a=b ...` before it where build arguments had a say. */
  readonly recorded: readonly string[];
  /** Build arguments, for this process only. */
  readonly environment: readonly string[];
};

export function runCommand(build: Build, config: RunConfig, { args, heredoc }: Instruction): RunCommand {
  const words = heredoc === undefined ? jsonWords(args) : undefined;
  const command = words ?? [...(config.Shell ?? ["/bin/sh", "-c"]), heredoc ?? args];
  const environment = build.args.forRun(config.Env ?? []);
  const shown = build.args.inHistory(environment);
  const recorded = environment.length === 0 ? command : [`|${shown.length}`, ...shown, ...command];
  return { words: command, recorded, environment };
}

/** Throws {@link BuildStepError} when the command fails. The pending layer is the caller's. */
export async function runStep(build: Build, state: StageState, command: RunCommand): Promise<PendingLayer> {
  const { containers, layers, images } = build.parts;
  const { id } = await containers.create({
    name: undefined,
    transient: build.options.remove,
    config: containerConfig(state, command),
    hostConfig: hostConfig(build),
    networks: {},
  });
  let keep = false;
  try {
    say(build, ` ---> Running in ${shortId(id)}`);
    await runContainer(build, id, command);
    const top = state.imageId === undefined ? undefined : images.getById(state.imageId).top;
    const { signal } = build.options;
    const layer = await layers.register(top, layers.changesTar(id, signal), { signal });
    keep = !build.options.remove;
    return layer;
  } finally {
    if (!keep) {
      await containers.remove(id, { force: true, volumes: true });
      say(build, `Removing intermediate container ${shortId(id)}`);
    }
  }
}

function containerConfig(state: StageState, { words, environment }: RunCommand): RunConfig {
  const { Healthcheck: _, OnBuild: __, ...config } = state.config;
  return {
    ...config,
    Image: state.imageId ?? "",
    Cmd: words,
    Entrypoint: [""],
    Env: [...(config.Env ?? []), ...environment],
    Healthcheck: { Test: ["NONE"] },
    AttachStdout: true,
    AttachStderr: true,
  };
}

function hostConfig({ options }: Build): Readonly<Record<string, unknown>> {
  const { networkMode, extraHosts, memory, cpuShares, shmSize } = options;
  return {
    NetworkMode: networkMode === "" || networkMode === "default" ? "host" : networkMode,
    ...(extraHosts.length === 0 ? {} : { ExtraHosts: extraHosts }),
    ...(memory === 0 ? {} : { Memory: memory }),
    ...(cpuShares === 0 ? {} : { CpuShares: cpuShares }),
    ...(shmSize === 0 ? {} : { ShmSize: shmSize }),
  };
}

async function runContainer(build: Build, id: string, { words }: RunCommand): Promise<void> {
  const { containers } = build.parts;
  const { signal } = build.options;
  signal.throwIfAborted();
  await using attachment = await containers.attach(id, { stdin: false, stdout: true, stderr: true });
  const exited = containers.wait(id, "next-exit");
  exited.catch(() => undefined);
  const stop = (): void => void containers.kill(id, "KILL").catch(() => undefined);
  signal.addEventListener("abort", stop);
  try {
    await containers.start(id);
    // The abort may have come before there was anything to kill.
    if (signal.aborted) stop();
    const [{ exitCode, error }] = await Promise.all([exited, tellOutput(build, attachment.output)]);
    signal.throwIfAborted();
    if (error !== undefined && error !== "") throw new EngineError("internal", error);
    if (exitCode !== 0)
      throw new BuildStepError(`The command '${words.join(" ")}' returned a non-zero code: ${exitCode}`, exitCode);
  } catch (error) {
    if (signal.aborted) throw new EngineError("canceled", "the build was cancelled", { cause: error });
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** What the command says on stderr is shown in red, as the classic builder does. */
async function tellOutput(build: Build, output: AsyncIterable<LogLine>): Promise<void> {
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  for await (const { stream, data } of output) {
    const text = decoders[stream].decode(data, { stream: true });
    if (text !== "") build.tell({ stream: stream === "stderr" ? `\x1b[91m${text}\x1b[0m` : text });
  }
}
