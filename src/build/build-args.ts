/**
 * Build arguments: what the client gave (`--build-arg`), what the Dockerfile declares (`ARG`, before the first FROM and
 * in each stage), and which of them an instruction may see. Docker's rules (moby builder/dockerfile/buildargs.go).
 */
import { EngineError } from "../base/errors.ts";
import { expandWord, splitWords, type Variables } from "../base/shell-words.ts";
import type { Instruction } from "./parse-dockerfile.ts";

/** May be given without being declared, reach RUN, and stay out of history and cache. */
const proxies: ReadonlySet<string> = new Set(
  ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
);

export class BuildArgs {
  readonly #given: ReadonlyMap<string, string>;
  readonly #globals = new Map<string, string | undefined>();
  readonly #declared = new Set<string>();
  #stage = new Map<string, string | undefined>();

  constructor(given: Readonly<Record<string, string | null>>) {
    const entries = Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== null);
    this.#given = new Map(entries);
  }

  /** ARG before the first FROM. */
  declareGlobal(name: string, value: string | undefined): void {
    this.#globals.set(name, value);
    this.#declared.add(name);
  }

  /** ARG of a stage. */
  declare(name: string, value: string | undefined): void {
    this.#stage.set(name, value);
    this.#declared.add(name);
  }

  beginStage(): void {
    this.#stage = new Map();
  }

  /** What `$name` means in a FROM. */
  readonly inFrom: Variables = (name) =>
    this.#globals.has(name) ? (this.#given.get(name) ?? this.#globals.get(name)) : undefined;

  /** What `$name` means inside a stage. */
  readonly inStage: Variables = (name) => {
    if (this.#stage.has(name)) return this.#given.get(name) ?? this.#stage.get(name) ?? this.inFrom(name);
    return proxies.has(name) ? this.#given.get(name) : undefined;
  };

  /** `NAME=value` for a RUN whose image has `environment`; sorted. */
  forRun(environment: readonly string[]): readonly string[] {
    const taken = new Set(environment.map((entry) => entry.split("=", 1)[0]));
    const names = new Set([...this.#stage.keys(), ...proxies]);
    const found: string[] = [];
    for (const name of names) {
      const value = this.inStage(name);
      if (value !== undefined && !taken.has(name)) found.push(`${name}=${value}`);
    }
    return found.sort();
  }

  /** Those of `variables` that are part of what a step is: proxies only where they were declared. */
  inHistory(variables: readonly string[]): readonly string[] {
    return variables.filter((entry) => {
      const name = entry.split("=", 1)[0] ?? "";
      return !proxies.has(name) || this.#declared.has(name);
    });
  }

  /** What the client gave and no ARG asked for. */
  unused(): readonly string[] {
    return [...this.#given.keys()].filter((name) => !this.#declared.has(name) && !proxies.has(name)).sort();
  }
}

/** `ARG NAME`, `ARG NAME=default`, several in one line. */
export function parseArg(
  { args, escapeChar }: Pick<Instruction, "args" | "escapeChar">,
  variables: Variables,
): readonly (readonly [name: string, value: string | undefined])[] {
  return splitWords(args, { escapeChar }).map((word) => {
    const equals = word.indexOf("=");
    const name = expandWord(equals < 0 ? word : word.slice(0, equals), variables, { escapeChar });
    if (name === "") throw new EngineError("invalid_argument", "ARG names can not be blank");
    return [name, equals < 0 ? undefined : expandWord(word.slice(equals + 1), variables, { escapeChar })] as const;
  });
}
