/**
 * Texts that become C strings of the kernel: no NUL in them, and no longer than it takes. Told at create: at the start
 * the OCI runtime would repeat the text in its error, and one longer than a pipe holds keeps it from ending.
 */
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import type { HostConfig } from "./container.ts";

/** MAX_ARG_STRLEN of Linux, with the ending zero: one word of argv or of the environment. */
const longestWord = 128 * 1024 - 1;
/** PATH_MAX, with the ending zero. */
const longestPath = 4095;
/** HOST_NAME_MAX. */
const longestName = 64;

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);

/** Throws for a NUL in any text of `value`; `path` names the member. */
function refuseNul(value: unknown, path: string): void {
  if (typeof value === "string") {
    if (value.includes("\0")) throw invalid(`${path} has a NUL byte in it: take it out`);
  } else if (typeof value === "object" && value !== null)
    for (const [key, member] of Object.entries(value)) {
      refuseNul(key, path);
      refuseNul(member, path === "" ? key : `${path}.${key}`);
    }
}

function refuseLong(text: string, limit: number, what: string): void {
  const length = Buffer.byteLength(text);
  if (length > limit) throw invalid(`${what} is too long: ${length} bytes, and the kernel takes ${limit}`);
}

function checkName(name: string, what: string): void {
  refuseLong(name, longestName, what);
  if (/[\s/]/.test(name)) throw invalid(`invalid ${what} format: ${JSON.stringify(name)}`);
}

export type Words = {
  readonly command: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
};

/** What a process is started with. Throws invalid_argument. */
export function checkWords(words: Words): void {
  refuseNul(words, "");
  const [program = ""] = words.command;
  refuseLong(program, longestPath, "the command's name");
  for (const word of words.command) refuseLong(word, longestWord, "a word of the command");
  for (const variable of words.env) refuseLong(variable, longestWord, "an environment variable");
  refuseLong(words.workingDir, longestPath, "the working directory");
  refuseLong(words.user, longestPath, "the user");
}

/** Texts of a container's merged config and of its host config. Throws invalid_argument. */
export function checkTexts(config: RunConfig, host: HostConfig): void {
  refuseNul(config, "Config");
  refuseNul(host, "HostConfig");
  checkWords({
    command: [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])],
    env: config.Env ?? [],
    workingDir: config.WorkingDir ?? "",
    user: config.User ?? "",
  });
  checkName(config.Hostname ?? "", "hostname");
  checkName(config.Domainname ?? "", "domainname");
  for (const group of host.GroupAdd ?? []) refuseLong(group, longestPath, "the name of a group");
}
