/** Durations as Go writes them ("1h30m", "500ms", "-1.5s"), in nanoseconds. */
import { EngineError } from "./errors.ts";

const nanoseconds: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

const term = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g;
const whole = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;

/** The duration in nanoseconds, or undefined when `text` is none. */
export function findDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  if (!whole.test(text)) return undefined;
  let sum = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(term)) sum += Number(amount) * (nanoseconds[unit] ?? 0);
  return Math.round(text.startsWith("-") ? -sum : sum);
}

/** Throws invalid_argument in Go's words. */
export function parseDuration(text: string): number {
  const found = findDuration(text);
  if (found === undefined) throw new EngineError("invalid_argument", `time: invalid duration ${JSON.stringify(text)}`);
  return found;
}
