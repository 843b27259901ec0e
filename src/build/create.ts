/**
 * The classic builder: context in, image out. Everything is refused that can be before the first step; a build that
 * fails or is cancelled leaves no container, no directory and no lease, only the images of the steps that succeeded,
 * which are the cache.
 */
import type { ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { canonicalOf, familiarName } from "../base/reference.ts";
import { BuildArgs } from "./build-args.ts";
import type { Builder, BuildMessage, BuildOptions } from "./builder.ts";
import { ContextRoot } from "./context.ts";
import { type Instruction, parseDockerfile } from "./parse-dockerfile.ts";
import type { Build, BuilderParts } from "./parts.ts";
import { say, shortId } from "./parts.ts";
import { runBuild } from "./run-build.ts";
import { type Stages, splitStages } from "./stages.ts";

export function createBuilder(parts: BuilderParts): Builder {
  const contexts = new ContextRoot(parts.stagingRoot, parts.pool);
  return {
    build: async (tar, options, tell) => {
      const output = new Output(tell, options.quiet);
      try {
        return await build({ parts, contexts }, { tar, options, output });
      } catch (error) {
        output.flush();
        if (options.signal.aborted) throw new EngineError("canceled", "the build was cancelled", { cause: error });
        throw error;
      }
    },
  };
}

type Request = {
  readonly tar: AsyncIterable<Uint8Array>;
  readonly options: BuildOptions;
  readonly output: Output;
};

async function build(
  { parts, contexts }: { readonly parts: BuilderParts; readonly contexts: ContextRoot },
  { tar, options, output }: Request,
): Promise<ImageId> {
  const tags = [...new Set(options.tags.map(canonicalOf))];
  await using context = await contexts.open(tar, options.signal);
  const instructions = parseDockerfile(await context.readDockerfile(options.dockerfile));
  const stages = withLabels(splitStages(instructions, options.target), options.labels);
  const args = new BuildArgs(options.buildArgs);
  const run: Build = { parts, options, tell: output.tell, context: context.path, args, done: [] };
  const id = await runBuild(run, stages);
  const unused = args.unused();
  if (unused.length > 0) say(run, `[Warning] One or more build-args [${unused.join(" ")}] were not consumed`);
  output.result({ aux: { ID: id } });
  say(run, `Successfully built ${shortId(id)}`);
  for (const tag of tags) {
    await parts.images.tag(id, tag);
    say(run, `Successfully tagged ${familiarName(tag)}`);
  }
  output.finish(id);
  return id;
}

/** `--label` is one more LABEL at the end of what is built. */
function withLabels(stages: Stages, labels: BuildOptions["labels"]): Stages {
  const names = Object.keys(labels).sort();
  const last = stages.stages.at(-1);
  if (names.length === 0 || last === undefined) return stages;
  const args = names.map((name) => `${quote(name)}=${quote(labels[name] ?? "")}`).join(" ");
  const text = `LABEL ${names.map((name) => `${name}=${labels[name] ?? ""}`).join(" ")}`;
  const label: Instruction = {
    keyword: "LABEL",
    args,
    flags: new Map(),
    text,
    line: 0,
    escapeChar: "\\",
    heredoc: undefined,
  };
  const instructions = [...last.instructions, label];
  return { ...stages, stages: [...stages.stages.slice(0, -1), { ...last, instructions }] };
}

/** A literal word of a Dockerfile: no variable in it is put in. */
const quote = (text: string): string => `"${text.replace(/["\\$]/g, "\\$&")}"`;

/** Quiet: only the image's id at the end; but what was held back is told when the build fails. */
class Output {
  readonly #tell: (message: BuildMessage) => void;
  readonly #quiet: boolean;
  #held: BuildMessage[] = [];
  #heldSize = 0;

  constructor(tell: (message: BuildMessage) => void, quiet: boolean) {
    this.#tell = tell;
    this.#quiet = quiet;
  }

  readonly tell = (message: BuildMessage): void => {
    if (!this.#quiet) {
      this.#tell(message);
      return;
    }
    this.#held.push(message);
    this.#heldSize += typeof message.stream === "string" ? message.stream.length : 0;
    // The end of what a command said tells why it failed; the beginning may go.
    while (this.#heldSize > mostHeld) {
      const first = this.#held.shift();
      this.#heldSize -= typeof first?.stream === "string" ? first.stream.length : 0;
    }
  };

  result(message: BuildMessage): void {
    this.#tell(message);
  }

  finish(id: ImageId): void {
    this.#held = [];
    if (this.#quiet) this.#tell({ stream: `${id}\n` });
  }

  flush(): void {
    for (const message of this.#held) this.#tell(message);
    this.#held = [];
  }
}

/** Characters of a quiet build's output that are kept for the case that it fails. */
const mostHeld = 1024 * 1024;
