/**
 * Signals as clients write them (`SIGTERM`, `term`, `15`, `RTMIN+3`) and as the kernel counts them on Linux.
 */
import { constants } from "node:os";
import { EngineError } from "../base/errors.ts";

const realtimeLowest = 34;
const realtimeHighest = 64;

function realtime(name: string): number | undefined {
  const match = /^RT(MIN\+|MAX-)(\d{1,2})$/.exec(name);
  if (match === null) return undefined;
  const offset = Number(match[2]);
  return match[1] === "MIN+" ? realtimeLowest + offset : realtimeHighest - offset;
}

/** The number of a signal. Throws invalid_argument with Docker's text for what is none. */
export function parseSignal(text: string): number {
  const invalid = new EngineError("invalid_argument", `invalid signal: ${text}`);
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number < 1 || number > realtimeHighest) throw invalid;
    return number;
  }
  const name = text.toUpperCase().replace(/^SIG/, "");
  if (name === "RTMIN") return realtimeLowest;
  if (name === "RTMAX") return realtimeHighest;
  const number = Object.entries(constants.signals).find(([key]) => key === `SIG${name}`)?.[1] ?? realtime(name);
  if (number === undefined || number < 1 || number > realtimeHighest) throw invalid;
  return number;
}
