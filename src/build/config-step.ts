/**
 * Instructions that change only what a container starts with: no layer, an entry in the history. Their names are those
 * of the classic builder (`/bin/sh -c #(nop)  ENV a=b`), variables put in, because the cache compares them.
 */
import type { RunConfig } from "../base/oci.ts";
import { applyInstruction, pairsOf, portWords, volumeWords } from "../image/change.ts";
import { type ChangeInstruction, jsonWords } from "../image/change-words.ts";
import { parseArg } from "./build-args.ts";
import type { Instruction } from "./parse-dockerfile.ts";
import { parseError } from "./parse-dockerfile.ts";
import type { Build } from "./parts.ts";
import type { StageState } from "./stage-state.ts";

export type ConfigStep = { readonly comment: string; readonly state: StageState };

/** Throws invalid_argument for wrong arguments. `state` is the stage's with the new config. */
export function configStep(build: Build, state: StageState, instruction: Instruction): ConfigStep {
  const { keyword, args } = instruction;
  if (keyword === "ARG") return declareArgs(build, state, instruction);
  if (keyword === "MAINTAINER") return { comment: ` MAINTAINER ${args}`, state: { ...state, author: args } };
  if (keyword === "SHELL") return withShell(state, instruction);
  const change: ChangeInstruction = { ...instruction, buildArguments: build.args.inStage };
  const { config, cmdSet } = applyInstruction(state, change);
  return { comment: commentOf(state.config, config, change), state: { ...state, config, cmdSet } };
}

/** argv that stands for an instruction that runs nothing. */
export const nopCommand = (config: RunConfig, comment: string): readonly string[] => [
  ...(config.Shell ?? ["/bin/sh", "-c"]),
  `#(nop) ${comment}`,
];

function declareArgs(build: Build, state: StageState, instruction: Instruction): ConfigStep {
  const environment = state.config.Env ?? [];
  const variables = (name: string): string | undefined =>
    environment.findLast((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1) ?? build.args.inStage(name);
  const words: string[] = [];
  for (const [name, value] of parseArg(instruction, variables)) {
    build.args.declare(name, value);
    words.push(value === undefined ? name : `${name}=${value}`);
  }
  return { comment: ` ARG ${words.join(" ")}`, state };
}

function withShell(state: StageState, { args, line }: Instruction): ConfigStep {
  const words = jsonWords(args);
  if (words === undefined) throw parseError(line, "SHELL requires the arguments to be in JSON form");
  if (words.length === 0) throw parseError(line, "SHELL requires at least one argument");
  return { comment: ` SHELL [${words.join(" ")}]`, state: { ...state, config: { ...state.config, Shell: words } } };
}

function commentOf(before: RunConfig, after: RunConfig, change: ChangeInstruction): string {
  const { keyword } = change;
  switch (keyword) {
    case "ENV":
    case "LABEL":
      return ` ${keyword} ${pairsOf(before, change)
        .map(([name, value]) => `${name}=${value}`)
        .join(" ")}`;
    case "EXPOSE":
      return ` EXPOSE ${portWords(before, change).sort().join(" ")}`;
    case "VOLUME":
      return ` VOLUME [${volumeWords(before, change).join(" ")}]`;
    case "CMD":
      return ` CMD ${quotedWords(after.Cmd ?? [])}`;
    case "ENTRYPOINT":
      return ` ENTRYPOINT ${quotedWords(after.Entrypoint ?? [])}`;
    case "USER":
      return ` USER ${after.User ?? ""}`;
    case "STOPSIGNAL":
      return ` STOPSIGNAL ${after.StopSignal ?? ""}`;
    default: {
      const flags = [...change.flags].map(([name, value]) => `--${name}=${value} `).join("");
      return ` ${keyword} ${flags}${change.args}`;
    }
  }
}

/** Go's %q of a list. */
const quotedWords = (words: readonly string[]): string => `[${words.map((word) => JSON.stringify(word)).join(" ")}]`;
