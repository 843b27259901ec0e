/**
 * Decoding of values that come from outside (bodies, documents of images, records on disk): a schema of valibot is the
 * type. What is wrong is told by its path and by the kind of value that stands there, never by the value itself, which
 * may be a secret.
 */
import * as v from "valibot";

/** Anything that decodes to `T`. */
export type Shape<T> = v.GenericSchema<unknown, T>;

export type Decoded<T> =
  | { readonly ok: true; readonly value: T }
  | {
      readonly ok: false;
      /** Members from the top, joined by dots; "" for the whole value. */
      readonly path: string;
      readonly problem: string;
      /** A member that a strict shape does not know. */
      readonly unknownKey: boolean;
    };

/** Decodes `value`; of several things that are wrong the first is told. */
export function decodeShape<T>(shape: Shape<T>, value: unknown): Decoded<T> {
  const result = v.safeParse(shape, value, { abortEarly: true });
  if (result.success) return { ok: true, value: result.output };
  const [issue] = result.issues;
  const path = issue.path?.map(({ key }) => String(key)).join(".") ?? "";
  return { ok: false, path, problem: problemOf(issue), unknownKey: issue.expected === "never" };
}

function problemOf({ expected, type, received, input, message }: v.BaseIssue<unknown>): string {
  // A strict or loose object complains itself about a member that is not there.
  if (received === "undefined") return "Invalid input: it is missing";
  const wanted = type === "custom" ? message : (expected ?? (type === "safe_integer" ? "integer" : type));
  const words = wanted.replaceAll("Object", "object").replaceAll("Array", "array").replaceAll(" | ", "|");
  return `Invalid input: expected ${words.replace(/^\((.*)\)$/, "one of $1")}, received ${kindOf(input)}`;
}

const kindOf = (value: unknown): string => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * A map whose keys a stranger chooses. Unlike valibot's record it keeps keys such as `constructor`, which are good
 * labels; `isMember` tells a good value.
 */
const mapOf = <T>(isMember: (value: unknown) => value is T, expected: string) =>
  v.custom<Record<string, T>>(
    (value) => isObject(value) && Object.values(value).every(isMember),
    () => expected,
  );

const isText = (value: unknown): value is string => typeof value === "string";
const isTextOrNull = (value: unknown): value is string | null => value === null || isText(value);
const isObjectOrNull = (value: unknown): value is Readonly<Record<string, unknown>> | null =>
  value === null || isObject(value);
const isAny = (_value: unknown): _value is unknown => true;

export const anyMap = mapOf(isAny, "object");
/** An object with these members and maybe more; valibot's own takes a list for one. */
export const looseObject = <const E extends v.ObjectEntries>(entries: E) => v.pipe(anyMap, v.looseObject(entries));
export const textMap = mapOf(isText, "object of strings");
export const textOrNullMap = mapOf(isTextOrNull, "object of strings");
/** Go's set: a map to empty objects. */
export const objectMap = mapOf(isObject, "object of objects");
export const objectOrNullMap = mapOf(isObjectOrNull, "object of objects");
export const integer = v.pipe(v.number(), v.safeInteger());
export const textList = v.array(v.string());
/** Docker's strslice: a text or a list of them. */
export const words = v.union([
  v.pipe(
    v.string(),
    v.transform((word) => [word]),
  ),
  textList,
]);
