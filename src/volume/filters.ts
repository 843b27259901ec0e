/**
 * Filters of `volume ls` and `volume prune`: which keys there are, what their values mean (moby volume/service), and
 * which volumes pass. A name filter is a pattern of strangers, so it may not cost more than a bounded time.
 */
import { EngineError } from "../base/errors.ts";
import type { Volume, VolumeFilters } from "./store.ts";

export type VolumeTest = (volume: Volume) => boolean;

const listKeys: ReadonlySet<string> = new Set(["dangling", "name", "driver", "label"]);
const pruneKeys: ReadonlySet<string> = new Set(["all", "label", "label!"]);

/** `referenced` tells whether a container holds a volume. Throws invalid_argument for unknown keys and values. */
export function listFilter(filters: VolumeFilters, referenced: (name: string) => boolean): VolumeTest {
  refuseUnknown(filters, listKeys);
  const dangling = booleanOf(filters, "dangling");
  const names = (filters.get("name") ?? []).map(namePattern);
  const drivers = filters.get("driver") ?? [];
  return (volume) =>
    (dangling === undefined || dangling !== referenced(volume.name)) &&
    (names.length === 0 || names.some((test) => test(volume.name))) &&
    (drivers.length === 0 || drivers.includes(volume.driver)) &&
    hasLabels(volume, filters.get("label") ?? []);
}

/** Says nothing about references and drivers: what may never be pruned is the store's to know. */
export function pruneFilter(filters: VolumeFilters): VolumeTest {
  refuseUnknown(filters, pruneKeys);
  const all = booleanOf(filters, "all") ?? false;
  const without = filters.get("label!") ?? [];
  return (volume) =>
    (all || volume.anonymous) &&
    hasLabels(volume, filters.get("label") ?? []) &&
    (without.length === 0 || !hasLabels(volume, without));
}

function refuseUnknown(filters: VolumeFilters, known: ReadonlySet<string>): void {
  for (const key of filters.keys())
    if (!known.has(key)) throw new EngineError("invalid_argument", `invalid filter '${key}'`);
}

/** Go's strconv.ParseBool, as far as clients use it; several values must agree. */
function booleanOf(filters: VolumeFilters, key: string): boolean | undefined {
  const values = filters.get(key) ?? [];
  if (values.length === 0) return undefined;
  const yes = values.some((value) => value === "true" || value === "1");
  const no = values.some((value) => value === "false" || value === "0");
  if (yes === no) throw new EngineError("invalid_argument", `invalid filter '${key}=[${values.join(" ")}]'`);
  return yes;
}

/** Every `key` or `key=value` must be there. */
function hasLabels(volume: Volume, wanted: readonly string[]): boolean {
  return wanted.every((label) => {
    const [key = "", value] = cut(label, "=");
    const found = Object.hasOwn(volume.labels, key) ? volume.labels[key] : undefined;
    return found !== undefined && (value === undefined || value === found);
  });
}

/** Docker matches names by regular expression anywhere; groups and many repetitions could run for ever and are refused. */
function namePattern(pattern: string): (name: string) => boolean {
  if (/^[a-zA-Z0-9_-]*$/.test(pattern)) return (name) => name.includes(pattern);
  if (/[()]/.test(pattern) || (pattern.match(/[*+?{]/g) ?? []).length > 3)
    throw new EngineError("invalid_argument", `invalid filter 'name=[${pattern}]': use a simpler pattern`);
  try {
    const expression = new RegExp(pattern, "u");
    return (name) => expression.test(name);
  } catch {
    // Not an expression: as in Docker it names nothing, for no volume's name has such characters.
    return () => false;
  }
}

function cut(text: string, separator: string): readonly [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}
