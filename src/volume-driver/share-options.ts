/**
 * What options of volumes on other machines have in common: servers, paths and words of mount(8), read strictly. What a
 * stranger wrote never becomes another option or a word of a shell. Every refusal is invalid_argument and names the
 * option. Pure.
 */
import { isIP } from "node:net";
import { EngineError } from "../base/errors.ts";
import type { VolumeSpec } from "./driver.ts";
import { refuseUnknown } from "./option-names.ts";

type Options = VolumeSpec["options"];

/** Throws for an option that is not `known`, and for a `required` one that is missing or empty. */
export function checkNames(
  driver: string,
  options: Options,
  known: readonly string[],
  required: readonly string[],
): void {
  refuseUnknown(driver, options, known);
  for (const [name, value] of Object.entries(options)) {
    if (/[\x00-\x1f\x7f]/.test(value)) throw refused(`the option ${name} holds a control character`);
  }
  for (const name of required) if (!options[name]) throw refused(`missing required option: ${JSON.stringify(name)}`);
}

const hostPattern = /^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,252}[a-zA-Z0-9])?\.?$/;

/** A host name or an address; IPv6 stands in brackets, and may name an interface (`[fe80::1%eth0]`). */
export function parseHost(option: string, text: string): string {
  const inside = /^\[([0-9a-fA-F:.]+)(%[a-zA-Z0-9_.-]+)?\]$/.exec(text);
  if (inside !== null ? isIP(inside[1] ?? "") === 6 : hostPattern.test(text)) return text;
  throw refused(
    `the option ${option} names no server: ${JSON.stringify(text)}; give a name, an address, or an IPv6 address in brackets`,
  );
}

/** A path below a share: names with `/` between them, none of them `.` or `..`. */
export function parsePath(option: string, text: string): string {
  const names = text.split("/");
  const isFine = names.every((name) => name !== "" && name !== "." && name !== ".." && name.length <= 255);
  if (isFine && text.length <= 1024 && !/[\\\x00-\x1f\x7f]/.test(text)) return text;
  throw refused(
    `the option ${option} is no path below the share: ${JSON.stringify(text)}; give names with / between them`,
  );
}

/** A word that stands alone, or the pattern of its value. */
export type Words = Readonly<Record<string, true | RegExp>>;

export const digits = /^\d{1,10}$/;

/** The words of the option `o`, each in `words`. `elsewhere` says where one is given that may not stand here. */
export function parseWords(text: string, words: Words, elsewhere: Readonly<Record<string, string>> = {}): string[] {
  return text
    .split(",")
    .filter((word) => word !== "")
    .map((word) => {
      const [, name = "", , value] = /^([^=]*)(=(.*))?$/.exec(word) ?? [];
      const shape = Object.hasOwn(words, name) ? words[name] : undefined;
      if (Object.hasOwn(elsewhere, name)) throw refused(`the option o takes no ${name}: ${elsewhere[name]}`);
      if (shape === undefined)
        throw refused(
          `the option o has an unknown word: ${JSON.stringify(name)}; it takes ${Object.keys(words).join(", ")}`,
        );
      if (shape === true ? value === undefined : value !== undefined && shape.test(value)) return word;
      throw refused(`the option o has a wrong value of ${name}${shape === true ? ": it stands alone" : ""}`);
    });
}

/** One of `choices`, or undefined when the option is not given. */
export function parseChoice<T extends string>(options: Options, name: string, choices: readonly T[]): T | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw refused(`invalid value of the option ${name}: ${JSON.stringify(value)}; give ${choices.join(", ")}`);
}

/** The value when it has the shape, or undefined when the option is not given. */
export function parseShape(options: Options, name: string, shape: RegExp): string | undefined {
  const value = options[name];
  if (value === undefined || shape.test(value)) return value;
  throw refused(`invalid value of the option ${name}: ${JSON.stringify(value)}`);
}

export const refused = (words: string): EngineError => new EngineError("invalid_argument", words);
