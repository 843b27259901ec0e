/** Query strings as dockerd reads them: loose booleans, numbers, repeated values, and `filters` in both of its forms. */
import type { FastifyRequest } from "fastify";
import { EngineError } from "../../base/errors.ts";

type Values = Readonly<Record<string, string | readonly string[] | undefined>>;

/** What asks for nothing. */
const no = new Set(["", "0", "no", "false", "none"]);

/** One request's query. Missing names are empty texts, as in dockerd. */
export class Query {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  list(name: string): readonly string[] {
    const value = this.#values[name];
    if (value === undefined) return [];
    return typeof value === "string" ? [value] : value;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  text(name: string): string {
    return this.list(name)[0] ?? "";
  }

  /** Undefined when missing or empty. */
  optional(name: string): string | undefined {
    const text = this.text(name);
    return text === "" ? undefined : text;
  }

  flag(name: string, missing = false): boolean {
    if (!this.has(name)) return missing;
    return !no.has(this.text(name).trim().toLowerCase());
  }

  /** Throws invalid_argument unless the value is a whole number; undefined when missing or empty. */
  integer(name: string): number | undefined {
    const text = this.optional(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value))
      throw new EngineError("invalid_argument", `invalid value for ${name}: ${JSON.stringify(text)} is not a number`);
    return value;
  }

  /** Seconds since the epoch with a fraction, or RFC 3339; in milliseconds. Undefined when missing, empty or 0. */
  time(name: string): number | undefined {
    const text = this.optional(name);
    if (text === undefined || text === "0") return undefined;
    const time = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
    if (Number.isNaN(time))
      throw new EngineError("invalid_argument", `invalid value for ${name}: ${JSON.stringify(text)} is not a time`);
    return time;
  }

  /** A JSON object or array in a query value; undefined when missing, empty or null. */
  json(name: string): unknown {
    const text = this.optional(name);
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text) ?? undefined;
    } catch (error) {
      throw new EngineError("invalid_argument", `invalid value for ${name}: not JSON`, { cause: error });
    }
  }

  filters(): ReadonlyMap<string, readonly string[]> {
    return parseFilters(this.json("filters"));
  }
}

/**
 * `{"label":{"a=b":true}}` (today's form) or `{"label":["a=b"]}` (before 1.22). Whatever else stands there is refused: left
 * out, a prune that was to spare something would take it.
 */
export function parseFilters(value: unknown): ReadonlyMap<string, readonly string[]> {
  const filters = new Map<string, readonly string[]>();
  if (value === undefined) return filters;
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw badFilters();
  for (const [key, entry] of Object.entries(value)) filters.set(key, filterValues(entry));
  return filters;
}

function filterValues(entry: unknown): readonly string[] {
  if (Array.isArray(entry)) {
    if (!entry.every((name) => typeof name === "string")) throw badFilters();
    return entry;
  }
  if (typeof entry !== "object" || entry === null) throw badFilters();
  if (!Object.values(entry).every((wanted) => wanted === true)) throw badFilters();
  return Object.keys(entry);
}

const badFilters = (): EngineError =>
  new EngineError("invalid_argument", 'invalid filters: expected {"name":{"value":true}} or {"name":["value"]}');

export function queryOf(request: FastifyRequest): Query {
  return new Query(request.query as Values);
}

/** A parameter of the route's path ("" when absent); `*` is the rest of the path. */
export function pathPart(request: FastifyRequest, name: string): string {
  const value = (request.params as Values)[name];
  return typeof value === "string" ? value : "";
}
