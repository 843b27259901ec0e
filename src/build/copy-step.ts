/**
 * COPY and ADD: which sources, from where, to where and whose; then a layer straight from a tar of them. The name of the
 * step holds a digest of the sources, so that the cache knows a change.
 */
import { posix } from "node:path";
import type { ChainId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { expandWord, splitWords } from "../base/shell-words.ts";
import { variablesIn } from "../image/change.ts";
import { jsonWords } from "../image/change-words.ts";
import type { PendingLayer } from "../layer/store.ts";
import type { Copy } from "./copy-task.ts";
import type { Owner } from "./owner-task.ts";
import { type Instruction, parseError } from "./parse-dockerfile.ts";
import type { Build } from "./parts.ts";
import type { FindSources, FoundSources } from "./source-task.ts";
import type { StageState } from "./stage-state.ts";

export type CopyStep = { readonly comment: string; readonly makeLayer: () => Promise<PendingLayer> };

type Request = {
  readonly instruction: Instruction;
  readonly paths: readonly string[];
  /** Absolute. */
  readonly destination: string;
  /** The destination as the instruction has it: what history and cache compare. */
  readonly written: string;
  readonly from: string | undefined;
  readonly owner: string | undefined;
  readonly mode: number | undefined;
};

const tasks = {
  source: new URL("./source-task.ts", import.meta.url),
  copy: new URL("./copy-task.ts", import.meta.url),
  owner: new URL("./owner-task.ts", import.meta.url),
};

/** The sources are found and read here; `makeLayer` is for when the cache does not know them. `held` keeps what is mounted meanwhile. */
export async function copyStep(
  build: Build,
  state: StageState,
  { instruction, held }: { readonly instruction: Instruction; readonly held: AsyncDisposableStack },
): Promise<CopyStep> {
  const { pool } = build.parts;
  const { signal } = build.options;
  const request = parseCopy(build, state.config, instruction);
  const root = request.from === undefined ? build.context : await mountSource(build, request.from, held);
  const find: FindSources = {
    root,
    paths: request.paths,
    command: instruction.keyword,
    archives: instruction.keyword === "ADD",
    owners: request.from !== undefined && request.owner === undefined,
  };
  const found = await pool.run<FindSources, FoundSources>(tasks.source, "findSourcesTask", find, { signal });
  if (found.sources.length > 1 && !request.destination.endsWith("/"))
    throw new EngineError(
      "invalid_argument",
      `When using ${instruction.keyword} with more than one source file, the destination must be a directory and end with a /`,
    );
  return {
    comment: commentOf(request, found.digest),
    makeLayer: () => makeLayer(build, state, { request, found, root }),
  };
}

function parseCopy(build: Build, config: RunConfig, instruction: Instruction): Request {
  const { keyword, args, flags, escapeChar, line } = instruction;
  const variables = variablesIn(config, { buildArguments: build.args.inStage });
  const expand = (word: string): string => expandWord(word, variables, { escapeChar });
  const words = (jsonWords(args) ?? splitWords(args, { escapeChar })).map(expand);
  const destination = words.pop();
  if (destination === undefined || words.length === 0)
    throw parseError(line, `${keyword} requires at least two arguments`);
  const url = keyword === "ADD" ? words.find((word) => /^(https?|ftp|git|ssh):\/\/|^git@/i.test(word)) : undefined;
  if (url !== undefined)
    throw new EngineError(
      "unsupported",
      `ADD failed: fetching ${withoutSecrets(url)} is not supported: download it into the build context and ADD the file`,
    );
  const flag = (name: string): string | undefined => {
    const value = flags.get(name);
    return value === undefined || value === "" ? undefined : expand(value);
  };
  return {
    instruction,
    paths: words,
    destination: absolute(config.WorkingDir ?? "", destination),
    written: destination,
    from: flag("from"),
    owner: flag("chown"),
    mode: modeOf(flag("chmod"), line),
  };
}

/** A trailing slash, or a last `.`, is kept as a slash: it says that the destination is a directory. */
function absolute(workingDir: string, destination: string): string {
  const path = posix.resolve("/", workingDir, destination);
  const isDirectory = /(^|\/)\.?$/.test(destination);
  return isDirectory && path !== "/" ? `${path}/` : path;
}

function modeOf(text: string | undefined, line: number): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-7]{1,4}$/.test(text))
    throw parseError(line, `invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`);
  return Number.parseInt(text, 8);
}

/** A URL may carry a password. */
const withoutSecrets = (url: string): string => url.replace(/\/\/[^/@]*@/, "//").replace(/[?#].*$/s, "");

function commentOf({ instruction, written, owner, mode }: Request, digest: string): string {
  const flags = [
    ...(owner === undefined ? [] : [`--chown=${owner} `]),
    ...(mode === undefined ? [] : [`--chmod=${mode.toString(8)} `]),
  ];
  return `${instruction.keyword} ${flags.join("")}${digest} in ${written} `;
}

/** A stage by name or number, else an image by name. */
async function mountSource(build: Build, from: string, held: AsyncDisposableStack): Promise<string> {
  const { images, layers } = build.parts;
  const top = sourceTop(build, from) ?? images.find(from)?.top;
  if (top === undefined)
    throw new EngineError("invalid_argument", `invalid from flag value ${from}: No such image: ${from}`);
  return held.use(await layers.mountLayer(top)).path;
}

function sourceTop(build: Build, from: string): ChainId | undefined {
  const named = build.done.find((stage) => stage.name === from.toLowerCase());
  const stage = named ?? (/^\d{1,4}$/.test(from) ? build.done[Number(from)] : undefined);
  if (stage === undefined && /^\d{1,4}$/.test(from))
    throw new EngineError("invalid_argument", `invalid from flag value ${from}: index out of bounds`);
  if (stage === undefined) return undefined;
  const top = stage.imageId === undefined ? undefined : build.parts.images.getById(stage.imageId).top;
  if (top === undefined)
    throw new EngineError("invalid_argument", `invalid from flag value ${from}: the stage is empty`);
  return top;
}

type Making = { readonly request: Request; readonly found: FoundSources; readonly root: string };

async function makeLayer(build: Build, state: StageState, { request, found, root }: Making): Promise<PendingLayer> {
  const { layers, images, pool } = build.parts;
  const { signal } = build.options;
  const top = state.imageId === undefined ? undefined : images.getById(state.imageId).top;
  await using image = top === undefined ? undefined : await layers.mountLayer(top);
  const copy: Copy = {
    sourceRoot: root,
    sources: found.sources,
    imageRoot: image?.path,
    destination: request.destination,
    owner: request.owner === undefined ? undefined : await findOwner(build, image?.path, request.owner),
    keepOwners: request.from !== undefined,
    mode: request.mode,
  };
  const task = pool.stream<Copy, void>(tasks.copy, "copyTarTask", copy, { signal });
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

async function findOwner(build: Build, root: string | undefined, owner: string): Promise<Owner> {
  return build.parts.pool.run(tasks.owner, "findOwnerTask", { root, owner }, { signal: build.options.signal });
}
