/**
 * Points in time as Docker's filters take them (`until`, `since`): seconds since the epoch with an optional fraction,
 * a Go duration (that long ago), or a date: RFC 3339, its prefixes down to the day, without a zone local time.
 */
import { findDuration } from "./duration.ts";
import { EngineError } from "./errors.ts";

const date = /^\d{4}-\d{2}-\d{2}(?:T\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?)?(?:Z|[+-]\d{2}:\d{2})?$/;

/** Milliseconds since the epoch; throws invalid_argument. */
export function parseTimestamp(text: string, now: number = Date.now()): number {
  if (/^\d+(?:\.\d+)?$/.test(text)) return Number(text) * 1000;
  const ago = findDuration(text);
  if (ago !== undefined) return now - ago / 1e6;
  const parsed = date.test(text) ? Date.parse(completed(text)) : Number.NaN;
  if (Number.isNaN(parsed))
    throw new EngineError("invalid_argument", `failed to parse value as time or duration: ${JSON.stringify(text)}`);
  return parsed;
}

/** A date with hours and minutes and, since a day alone would be read as UTC, always a time. */
function completed(text: string): string {
  const [, day = "", clock = "", zone = ""] = /^(.{10})(?:T([\d:.]+))?(.*)$/.exec(text) ?? [];
  const [hour = "00", minute = "00", second = "00"] = clock === "" ? [] : clock.split(":");
  return `${day}T${hour}:${minute}:${second}${zone}`;
}
