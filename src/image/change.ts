/**
 * Dockerfile instructions that change what a container starts with, applied to a run config: `docker import --change`,
 * `docker commit --change`, and the instructions of a build that make no layer. Docker's rules (BuildFromConfig and the
 * classic builder's dispatchers): variables come from the config's own Env, a CMD or ENTRYPOINT in shell form gets the shell.
 */
import { posix } from "node:path";
import type { Instruction } from "dockerfile-ast";
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { expandWord, expandWords, splitWords, type Variables, variablesOf } from "../base/shell-words.ts";
import { withHealthcheck } from "./change-healthcheck.ts";
import { type ChangeInstruction, checkStopSignal, exposedPorts, jsonWords } from "./change-words.ts";

/** `cmdSet`: a CMD stood among the instructions so far. */
export type ChangeState = { readonly config: RunConfig; readonly cmdSet: boolean };
type State = ChangeState;
type Apply = (state: State, change: ChangeInstruction) => State;

const defaultShell = ["/bin/sh", "-c"];

/** The config after `instructions`, in order. Throws invalid_argument: `X is not a valid change command`. */
export async function applyChanges(config: RunConfig, instructions: readonly string[]): Promise<RunConfig> {
  if (instructions.length === 0) return config;
  const changes = await parseChanges(instructions.join("\n"));
  for (const { keyword } of changes)
    if (!appliers.has(keyword)) throw invalid(`${keyword} is not a valid change command`);
  let state: State = { config, cmdSet: false };
  for (const change of changes) state = appliers.get(change.keyword)?.(state, change) ?? state;
  return state.config;
}

/** One instruction of a build. Throws invalid_argument for those that are no change of a config (RUN, COPY, ...). */
export function applyInstruction(state: ChangeState, change: ChangeInstruction): ChangeState {
  const apply = appliers.get(change.keyword);
  if (apply === undefined) throw invalid(`${change.keyword} is not a valid change command`);
  return apply(state, change);
}

/** What `$name` means in an instruction: the config's Env, then build arguments. */
export function variablesIn(
  config: RunConfig,
  { buildArguments }: Pick<ChangeInstruction, "buildArguments">,
): Variables {
  const environment = variablesOf(config.Env ?? []);
  return (name) => environment(name) ?? buildArguments?.(name);
}

/** The parser is loaded when it is first needed: an idle daemon has no use for its 8 MB. */
async function parseChanges(text: string): Promise<ChangeInstruction[]> {
  const { DockerfileParser } = await import("dockerfile-ast");
  const dockerfile = DockerfileParser.parse(text);
  const escapeChar = dockerfile.getEscapeCharacter();
  return dockerfile.getInstructions().map((instruction) => ({
    keyword: instruction.getKeyword(),
    args: (instruction.getArgumentsContent() ?? "").trim(),
    flags: flagsOf(instruction),
    escapeChar,
  }));
}

function flagsOf(instruction: Instruction): Map<string, string> {
  if (!("getFlags" in instruction) || typeof instruction.getFlags !== "function") return new Map();
  const flags: readonly { getName(): string; getValue(): string | null }[] = instruction.getFlags();
  return new Map(flags.map((flag) => [flag.getName(), flag.getValue() ?? ""]));
}

const appliers: ReadonlyMap<string, Apply> = new Map<string, Apply>([
  ["CMD", (state, change) => ({ config: { ...state.config, Cmd: commandOf(state.config, change) }, cmdSet: true })],
  ["ENTRYPOINT", withEntrypoint],
  ["ENV", (state, change) => withConfig(state, { Env: withVariables(state.config, change) })],
  ["EXPOSE", (state, change) => withConfig(state, { ExposedPorts: withPorts(state.config, change) })],
  ["HEALTHCHECK", (state, change) => withConfig(state, { Healthcheck: withHealthcheck(change) })],
  ["LABEL", (state, change) => withConfig(state, { Labels: withLabels(state.config, change) })],
  ["ONBUILD", (state, change) => withConfig(state, { OnBuild: [...(state.config.OnBuild ?? []), triggerOf(change)] })],
  ["STOPSIGNAL", (state, change) => withConfig(state, { StopSignal: checkStopSignal(oneWord(state.config, change)) })],
  ["USER", (state, change) => withConfig(state, { User: oneWord(state.config, change) })],
  ["VOLUME", (state, change) => withConfig(state, { Volumes: withVolumes(state.config, change) })],
  ["WORKDIR", (state, change) => withConfig(state, { WorkingDir: workdirOf(state.config, change) })],
]);

const withConfig = (state: State, part: RunConfig): State => ({ ...state, config: { ...state.config, ...part } });

/** JSON form exactly, else the shell form: one string for the shell. */
export function commandOf(config: RunConfig, { args }: Pick<ChangeInstruction, "args">): string[] {
  const words = jsonWords(args);
  if (words !== undefined) return words;
  return args === "" ? [] : [...(config.Shell ?? defaultShell), args];
}

/** A new entrypoint takes the old command away, unless CMD stands among the same changes. */
function withEntrypoint({ config, cmdSet }: State, change: ChangeInstruction): State {
  const words = commandOf(config, change);
  const next: RunConfig = { ...config, Entrypoint: words.length === 0 ? null : words };
  return { config: cmdSet ? next : { ...next, Cmd: null }, cmdSet };
}

/** `NAME=value` pairs, or the old form `NAME value`. */
export function pairsOf(config: RunConfig, change: ChangeInstruction): (readonly [string, string])[] {
  const { keyword, args, escapeChar } = change;
  const words = splitWords(args, { escapeChar });
  const variables = variablesIn(config, change);
  if (words.length === 0) throw invalid(`${keyword} requires at least one argument`);
  const raw = words[0]?.includes("=") ? words.map((word) => pairOf(word)) : [oldPair(keyword, args)];
  return raw.map(([name, value]) => {
    const expanded = expandWord(name, variables, { escapeChar });
    if (expanded === "") throw invalid(`${keyword} names can not be blank`);
    return [expanded, expandWord(value, variables, { escapeChar })] as const;
  });
}

function pairOf(word: string): [string, string] {
  const equals = word.indexOf("=");
  if (equals < 0)
    throw invalid(`Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`);
  return [word.slice(0, equals), word.slice(equals + 1)];
}

function oldPair(keyword: string, args: string): [string, string] {
  const match = /^(\S+)\s+(.+)$/s.exec(args);
  if (match === null) throw invalid(`${keyword} must have two arguments`);
  return [match[1] ?? "", match[2] ?? ""];
}

function withVariables(config: RunConfig, change: ChangeInstruction): string[] {
  const environment = [...(config.Env ?? [])];
  for (const [name, value] of pairsOf(config, change)) {
    const at = environment.findIndex((entry) => entry.split("=", 1)[0] === name);
    if (at < 0) environment.push(`${name}=${value}`);
    else environment[at] = `${name}=${value}`;
  }
  return environment;
}

function withLabels(config: RunConfig, change: ChangeInstruction): Record<string, string> {
  return Object.fromEntries([...Object.entries(config.Labels ?? {}), ...pairsOf(config, change)]);
}

/** Ports as written, variables put in. */
export function portWords(config: RunConfig, change: ChangeInstruction): string[] {
  const { keyword, args, escapeChar } = change;
  const words = splitWords(args, { escapeChar }).flatMap((word) =>
    expandWords(word, variablesIn(config, change), { escapeChar }),
  );
  if (words.length === 0) throw invalid(`${keyword} requires at least one argument`);
  return words;
}

function withPorts(config: RunConfig, change: ChangeInstruction): Record<string, object> {
  const words = portWords(config, change);
  const ports = words.flatMap(exposedPorts).map((port) => [port, {}] as const);
  return { ...config.ExposedPorts, ...Object.fromEntries(ports) };
}

/** Paths of VOLUME, variables put in. */
export function volumeWords(config: RunConfig, change: ChangeInstruction): string[] {
  const { keyword, args, escapeChar } = change;
  const variables = variablesIn(config, change);
  const words = jsonWords(args) ?? splitWords(args, { escapeChar });
  if (words.length === 0) throw invalid(`${keyword} requires at least one argument`);
  const paths = words.map((word) => expandWord(word, variables, { escapeChar }).trim());
  if (paths.includes("")) throw invalid("VOLUME specified can not be an empty string");
  return paths;
}

function withVolumes(config: RunConfig, change: ChangeInstruction): Record<string, object> {
  const paths = volumeWords(config, change);
  return { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}] as const)) };
}

function oneWord(config: RunConfig, change: ChangeInstruction): string {
  const { keyword, args, escapeChar } = change;
  if (args === "") throw invalid(`${keyword} requires exactly one argument`);
  return expandWord(args, variablesIn(config, change), { escapeChar });
}

function workdirOf(config: RunConfig, change: ChangeInstruction): string {
  const path = oneWord(config, change);
  if (path === "") throw invalid("cannot normalize nothing");
  const absolute = posix.join("/", path.startsWith("/") ? "" : (config.WorkingDir ?? ""), path);
  return absolute.length > 1 && absolute.endsWith("/") ? absolute.slice(0, -1) : absolute;
}

function triggerOf({ args }: ChangeInstruction): string {
  const keyword = /^\S*/.exec(args)?.[0].toUpperCase();
  if (keyword === "") throw invalid("ONBUILD requires at least one argument");
  if (keyword === "ONBUILD") throw invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (keyword === "FROM" || keyword === "MAINTAINER") throw invalid(`${keyword} isn't allowed as an ONBUILD trigger`);
  return args;
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
