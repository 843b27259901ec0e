/** A parsed instruction of `change.ts`, and the words of its arguments: JSON form, EXPOSE, STOPSIGNAL. */
import { constants } from "node:os";
import { EngineError } from "../base/errors.ts";
import type { Variables } from "../base/shell-words.ts";

/** One instruction: `args` without the keyword and its flags, line continuations joined. */
export type ChangeInstruction = {
  readonly keyword: string;
  readonly args: string;
  readonly flags: ReadonlyMap<string, string>;
  readonly escapeChar: string;
  /** Build arguments: what `$name` means where the config's Env does not know it. */
  readonly buildArguments?: Variables;
};

const port = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/([A-Za-z]+))?$/;
const protocols = ["tcp", "udp", "sctp"];
const realTimeSignal = /^RTM(?:IN(?:\+(?:[1-9]|1[0-5]))?|AX(?:-(?:[1-9]|1[0-4]))?)$/;
const highestSignal = 64;

/** The strings of a JSON array, or undefined when `text` is not exactly that (it is then the shell form, as in Docker). */
export function jsonWords(text: string): string[] | undefined {
  if (!text.startsWith("[")) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  return Array.isArray(value) && value.every((word) => typeof word === "string") ? value : undefined;
}

/** "80" -> ["80/tcp"], "1000-1002/udp" -> three. */
export function exposedPorts(word: string): string[] {
  const [, first = "", last = first, protocol = "tcp"] = port.exec(word) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === "" || from > to || to > 65535) throw invalid(`Invalid containerPort: ${word}`);
  if (!protocols.includes(protocol.toLowerCase())) throw invalid(`Invalid proto: ${protocol}`);
  return Array.from({ length: to - from + 1 }, (_, index) => `${from + index}/${protocol.toLowerCase()}`);
}

/** A signal's name, with or without SIG, or its number; returned as written. */
export function checkStopSignal(text: string): string {
  const name = text.toUpperCase().replace(/^SIG/, "");
  const known = `SIG${name}` in constants.signals || realTimeSignal.test(name);
  const number = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (!known && (number < 1 || number > highestSignal)) throw invalid(`Invalid signal: ${text}`);
  return text;
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
