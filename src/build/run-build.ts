/**
 * A build, step by step, with the classic builder's words: `Step 2/5 : RUN make`, ` ---> Using cache`, ` ---> <image>`.
 * Each instruction gives a new image, the child of the one before; that chain is the cache of the next build.
 */
import type { ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { expandWord } from "../base/shell-words.ts";
import { applyInstruction } from "../image/change.ts";
import type { PendingLayer } from "../layer/store.ts";
import { parsePlatform } from "../transfer/platform.ts";
import { parseArg } from "./build-args.ts";
import { commitStep, findCached, restoreCached, type Step } from "./commit-step.ts";
import { configStep, nopCommand } from "./config-step.ts";
import { copyStep } from "./copy-step.ts";
import { type Instruction, parseInstruction } from "./parse-dockerfile.ts";
import { type Build, say, shortId } from "./parts.ts";
import { runCommand, runStep } from "./run-step.ts";
import type { StageState } from "./stage-state.ts";
import type { Stage, Stages } from "./stages.ts";

const workdirTasks = new URL("./workdir-task.ts", import.meta.url);

/** Builds every stage in order; resolves to the image of the last. */
export async function runBuild(build: Build, { globals, stages }: Stages): Promise<ImageId> {
  const steps = new StepCounter(
    build,
    globals.length + stages.reduce((sum, stage) => sum + 1 + stage.instructions.length, 0),
  );
  for (const instruction of globals) {
    steps.next(instruction.text);
    for (const [name, value] of parseArg(instruction, build.args.inFrom)) build.args.declareGlobal(name, value);
  }
  let imageId: ImageId | undefined;
  for (const stage of stages) {
    imageId = await runStage(build, stage, steps);
    build.done.push({ name: stage.name, imageId });
  }
  if (imageId === undefined)
    throw new EngineError("invalid_argument", "No image was generated. Is your Dockerfile empty?");
  return imageId;
}

class StepCounter {
  readonly #build: Build;
  readonly #total: number;
  #done = 0;

  constructor(build: Build, total: number) {
    this.#build = build;
    this.#total = total;
  }

  next(text: string): void {
    this.#build.options.signal.throwIfAborted();
    say(this.#build, `Step ${++this.#done}/${this.#total} : ${text}`);
  }
}

async function runStage(build: Build, stage: Stage, steps: StepCounter): Promise<ImageId | undefined> {
  build.args.beginStage();
  steps.next(stage.from.text);
  let state = await beginStage(build, stage);
  say(build, ` ---> ${state.imageId === undefined ? "" : shortId(state.imageId)}`);
  for (const instruction of stage.instructions) {
    steps.next(instruction.text);
    state = await runInstruction(build, state, instruction);
    say(build, ` ---> ${shortId(state.imageId ?? "")}`);
  }
  return state.imageId;
}

/** FROM: the base image, and the triggers that it brings. */
async function beginStage(build: Build, { base, from }: Stage): Promise<StageState> {
  const { escapeChar } = from;
  const platform = expandWord(from.flags.get("platform") ?? "", build.args.inFrom, { escapeChar });
  if (parsePlatform(platform).architecture !== parsePlatform(undefined).architecture)
    throw new EngineError(
      "unsupported",
      `the platform ${platform} is not this machine's: images for others cannot be built`,
    );
  const name = expandWord(base, build.args.inFrom, { escapeChar });
  if (name === "") throw new EngineError("invalid_argument", `base name (${base}) should not be blank`);
  const fresh = { cmdSet: false, author: "" };
  if (name === "scratch") return { ...fresh, imageId: undefined, config: withDefaultPath({}) };
  const earlier = build.done.find((stage) => stage.name === name.toLowerCase());
  if (earlier !== undefined && earlier.imageId === undefined)
    return { ...fresh, imageId: undefined, config: withDefaultPath({}) };
  const { images } = build.parts;
  const image = earlier?.imageId === undefined ? images.get(name) : images.getById(earlier.imageId);
  const { OnBuild, ...config } = image.config.config ?? {};
  const state = { ...fresh, imageId: image.id, config: withDefaultPath(config) };
  return runTriggers(build, state, OnBuild ?? []);
}

/** A stage begins with a PATH, and its image keeps it. */
function withDefaultPath(config: RunConfig): RunConfig {
  const env = config.Env ?? [];
  if (env.some((variable) => variable.startsWith("PATH="))) return config;
  return { ...config, Env: [...env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] };
}

async function runTriggers(build: Build, begin: StageState, triggers: readonly string[]): Promise<StageState> {
  if (triggers.length === 0) return begin;
  say(build, `# Executing ${triggers.length} build trigger${triggers.length === 1 ? "" : "s"}`);
  let state = begin;
  for (const trigger of triggers) {
    const instruction = parseInstruction(trigger);
    if (["FROM", "ONBUILD", "MAINTAINER"].includes(instruction.keyword))
      throw new EngineError("invalid_argument", `${instruction.keyword} isn't allowed as an ONBUILD trigger`);
    state = await runInstruction(build, state, instruction);
  }
  return state;
}

async function runInstruction(build: Build, state: StageState, instruction: Instruction): Promise<StageState> {
  build.options.signal.throwIfAborted();
  switch (instruction.keyword) {
    case "RUN":
      return run(build, state, instruction);
    case "COPY":
    case "ADD":
      return copy(build, state, instruction);
    case "WORKDIR":
      return workdir(build, state, instruction);
    default: {
      const step = configStep(build, state, instruction);
      const command = nopCommand(state.config, step.comment);
      return finish(build, { before: state, after: step.state, command });
    }
  }
}

async function run(build: Build, state: StageState, instruction: Instruction): Promise<StageState> {
  const command = runCommand(build, state.config, instruction);
  return finish(build, {
    before: state,
    after: state,
    command: command.recorded,
    makeLayer: () => runStep(build, state, command),
  });
}

async function copy(build: Build, state: StageState, instruction: Instruction): Promise<StageState> {
  await using held = new AsyncDisposableStack();
  const { comment, makeLayer } = await copyStep(build, state, { instruction, held });
  // Awaited here: what is held must stay until the layer is made.
  return await finish(build, { before: state, after: state, command: nopCommand(state.config, comment), makeLayer });
}

async function workdir(build: Build, state: StageState, instruction: Instruction): Promise<StageState> {
  const change = { ...instruction, buildArguments: build.args.inStage };
  const after = { ...state, ...applyInstruction(state, change) };
  const path = after.config.WorkingDir ?? "/";
  return finish(build, {
    before: state,
    after,
    command: nopCommand(state.config, `WORKDIR ${path}`),
    makeLayer: () => makeWorkdir(build, state, path),
  });
}

async function makeWorkdir(build: Build, state: StageState, path: string): Promise<PendingLayer> {
  const { layers, images, pool } = build.parts;
  const { signal } = build.options;
  const top = state.imageId === undefined ? undefined : images.getById(state.imageId).top;
  await using image = top === undefined ? undefined : await layers.mountLayer(top);
  const task = pool.stream<object, void>(workdirTasks, "workdirTarTask", { root: image?.path, path }, { signal });
  task.result.catch(() => undefined);
  const layer = await layers.register(top, task.output, { signal });
  try {
    await task.result;
    return layer;
  } catch (error) {
    await layers.abandon([layer]);
    throw error;
  }
}

type Doing = {
  readonly before: StageState;
  readonly after: StageState;
  readonly command: readonly string[];
  readonly makeLayer?: () => Promise<PendingLayer>;
};

/** From the cache, or done and committed. */
async function finish(build: Build, { before, after, command, makeLayer }: Doing): Promise<StageState> {
  const step: Step = { command, config: after.config };
  const cached = build.options.noCache ? undefined : await fromCache(build, before, step);
  if (cached !== undefined) {
    say(build, " ---> Using cache");
    return { ...after, imageId: cached };
  }
  const layer = await makeLayer?.();
  const imageId = await commitStep(build.parts, { ...before, author: after.author }, { ...step, layer });
  return { ...after, imageId };
}

async function fromCache({ parts, options }: Build, state: StageState, step: Step): Promise<ImageId | undefined> {
  if (options.cacheFrom.length > 0) {
    const restored = await restoreCached(parts, state, { step, sources: options.cacheFrom });
    if (restored !== undefined) return restored;
  }
  return findCached(parts, state, step);
}
