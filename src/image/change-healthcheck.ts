/** HEALTHCHECK [--interval= --timeout= --start-period= --start-interval= --retries=] CMD ... | NONE. */
import { findDuration } from "../base/duration.ts";
import { EngineError } from "../base/errors.ts";
import type { HealthConfig } from "../base/oci.ts";
import { type ChangeInstruction, jsonWords } from "./change-words.ts";

const durations = {
  interval: "Interval",
  timeout: "Timeout",
  "start-period": "StartPeriod",
  "start-interval": "StartInterval",
} as const;

const millisecond = 1e6;

export function withHealthcheck({ args, flags }: ChangeInstruction): HealthConfig {
  const [, kind = "", rest = ""] = /^(\S+)\s*(.*)$/s.exec(args) ?? [];
  if (kind === "") throw invalid("HEALTHCHECK requires at least one argument");
  if (kind.toUpperCase() === "NONE") {
    if (rest !== "") throw invalid("HEALTHCHECK NONE takes no arguments");
    return { Test: ["NONE"] };
  }
  if (kind.toUpperCase() !== "CMD") throw invalid(`Unknown type ${JSON.stringify(kind)} in HEALTHCHECK (try CMD)`);
  const words = jsonWords(rest);
  if (rest === "" || words?.length === 0) throw invalid("Missing command after HEALTHCHECK CMD");
  return { Test: words === undefined ? ["CMD-SHELL", rest] : ["CMD", ...words], ...timesOf(flags) };
}

function timesOf(flags: ReadonlyMap<string, string>): HealthConfig {
  const entries: [string, number][] = [];
  for (const [name, value] of flags) {
    if (name === "retries") entries.push(["Retries", retriesOf(value)]);
    else if (isDurationFlag(name)) entries.push([durations[name], timeOf(name, value)]);
    else throw invalid(`Unknown flag: ${name}`);
  }
  return Object.fromEntries(entries);
}

const isDurationFlag = (name: string): name is keyof typeof durations => name in durations;

function timeOf(name: string, value: string): number {
  const found = findDuration(value);
  if (found === undefined) throw invalid(`time: invalid duration ${JSON.stringify(value)}`);
  if (found !== 0 && found < millisecond) throw invalid(`Interval ${JSON.stringify(name)} cannot be less than 1ms`);
  return found;
}

function retriesOf(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw invalid(`--retries must be a number that is not negative (not ${value})`);
  return Number(value);
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
