/**
 * Filters of `docker images` and `docker image prune`, as the API sends them: a name and its values. An unknown name or
 * value is refused. Values of one filter are alternatives, except labels, which must all hold.
 */
import { EngineError } from "../base/errors.ts";
import { familiarName, familiarRepository, parseReference } from "../base/reference.ts";
import { patternOf } from "./pattern.ts";
import type { Image } from "./store.ts";

export type Filters = Readonly<Record<string, readonly string[]>>;

/** Throws invalid_argument `invalid filter 'x'`. */
export function refuseUnknown(filters: Filters, known: readonly string[]): void {
  for (const name of Object.keys(filters)) if (!known.includes(name)) throw invalid(`invalid filter '${name}'`);
}

/** A yes or no filter; undefined when it was not given. */
export function flagOf(filters: Filters, name: string): boolean | undefined {
  const values = filters[name] ?? [];
  if (values.length === 0) return undefined;
  const flags = values.map((value) =>
    /^(?:1|true)$/i.test(value) ? true : /^(?:0|false)$/i.test(value) ? false : undefined,
  );
  if (flags.includes(undefined) || new Set(flags).size > 1)
    throw invalid(`invalid filter '${name}=[${values.join(" ")}]'`);
  return flags[0];
}

/** The one value of a filter that cannot have two. */
export function singleOf(filters: Filters, name: string): string | undefined {
  const values = filters[name] ?? [];
  if (values.length > 1) throw invalid(`more than one ${name} filter specified`);
  return values[0];
}

/** `label` ("key" or "key=value") must all hold, `label!` must not all hold. */
export function matchesLabels({ config }: Image, filters: Filters): boolean {
  const labels = new Map(Object.entries(config.config?.Labels ?? {}));
  const holds = (wanted: string): boolean => {
    const equals = wanted.indexOf("=");
    const key = equals < 0 ? wanted : wanted.slice(0, equals);
    return labels.has(key) && (equals < 0 || labels.get(key) === wanted.slice(equals + 1));
  };
  const [wanted = [], unwanted = []] = [filters.label, filters["label!"]];
  return wanted.every(holds) && !(unwanted.length > 0 && unwanted.every(holds));
}

/** The canonical references that one of the patterns matches, in full or by repository. */
export function matchingReferences(references: readonly string[], patterns: readonly string[]): readonly string[] {
  const expressions = patterns.map(patternOf);
  return references.filter((name) => {
    const parsed = parseReference(name);
    const forms = [familiarName(parsed), familiarRepository(parsed)];
    return expressions.some((expression) => forms.some((form) => expression.test(form)));
  });
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
