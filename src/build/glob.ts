/**
 * Patterns of paths: Go's filepath.Match (COPY and ADD), and `.dockerignore` over it. Time is bounded by the product of
 * the lengths, whatever a stranger writes. Pure.
 */
import { EngineError } from "../base/errors.ts";

/** One element of a pattern: a test of one character, or a run of any characters but the separator. */
type Element = { readonly test: (char: string) => boolean } | "star";

/** True when `path` matches `pattern` as a whole; `*` and `?` do not match "/". Throws invalid_argument for a broken pattern. */
export function matchPath(pattern: string, path: string): boolean {
  return matchElements(elementsOf(pattern), [...path]);
}

/** `*`, `?` or `[` in it. */
export const hasWildcards = (pattern: string): boolean => /(^|[^\\])[*?[]/.test(pattern);

function matchElements(elements: readonly Element[], chars: readonly string[]): boolean {
  let [at, position, star, mark] = [0, 0, -1, 0];
  while (position < chars.length) {
    const element = elements[at];
    const char = chars[position] ?? "";
    if (element === "star") {
      [star, mark] = [at++, position];
    } else if (element?.test(char) === true) {
      at++;
      position++;
    } else {
      // Back to the last star, which takes one character more; it may not take a separator.
      if (star < 0 || chars[mark] === "/") return false;
      [at, position] = [star + 1, ++mark];
    }
  }
  return elements.slice(at).every((element) => element === "star");
}

function elementsOf(pattern: string): Element[] {
  const elements: Element[] = [];
  const chars = [...pattern];
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at];
    if (char === "*") elements.push("star");
    else if (char === "?") elements.push({ test: (other) => other !== "/" });
    else if (char === "[") {
      const end = closingBracket(chars, at, pattern);
      elements.push({ test: classOf(chars.slice(at + 1, end), pattern) });
      at = end;
    } else {
      const literal = char === "\\" ? chars[++at] : char;
      if (literal === undefined) throw broken(pattern);
      elements.push({ test: (other) => other === literal });
    }
  }
  return elements;
}

function closingBracket(chars: readonly string[], open: number, pattern: string): number {
  for (let at = open + 1; at < chars.length; at++) {
    if (chars[at] === "\\") at++;
    else if (chars[at] === "]" && at > open + 1) return at;
  }
  throw broken(pattern);
}

function classOf(chars: readonly string[], pattern: string): (char: string) => boolean {
  const negated = chars[0] === "^";
  const ranges: [string, string][] = [];
  for (let at = negated ? 1 : 0; at < chars.length; at++) {
    const low = chars[at] === "\\" ? chars[++at] : chars[at];
    const isRange = chars[at + 1] === "-";
    if (isRange) at += 2;
    const high = isRange ? (chars[at] === "\\" ? chars[++at] : chars[at]) : low;
    if (low === undefined || high === undefined) throw broken(pattern);
    ranges.push([low, high]);
  }
  if (ranges.length === 0) throw broken(pattern);
  return (char) => char !== "/" && ranges.some(([low, high]) => low <= char && char <= high) !== negated;
}

const broken = (pattern: string): EngineError =>
  new EngineError("invalid_argument", `syntax error in pattern ${JSON.stringify(pattern)}`);

type Rule = { readonly segments: readonly string[]; readonly excludes: boolean };

/** Reads a `.dockerignore`; the answer tells whether a path (relative, clean) is left out of the context. */
export function parseDockerignore(text: string): (path: string) => boolean {
  const rules = text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .flatMap(ruleOf);
  return (path) => {
    const segments = path.split("/");
    let ignored = false;
    for (const rule of rules) if (matchesOrParent(rule, segments)) ignored = rule.excludes;
    return ignored;
  };
}

function ruleOf(line: string): Rule[] {
  if (line.startsWith("#")) return [];
  const trimmed = line.trim();
  if (trimmed === "") return [];
  const excludes = !trimmed.startsWith("!");
  const pattern = excludes ? trimmed : trimmed.slice(1).trim();
  if (pattern === "") throw new EngineError("invalid_argument", `illegal exclusion pattern: "!"`);
  const segments: string[] = [];
  for (const segment of pattern.split("/")) {
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment);
  }
  for (const segment of segments) elementsOf(segment);
  return segments.length === 0 ? [] : [{ segments, excludes }];
}

/** A rule that names a directory holds for everything in it. */
function matchesOrParent({ segments }: Rule, path: readonly string[]): boolean {
  // reachable[i]: the path so far can be what the first i segments of the pattern say.
  let reachable = closure(segments, new Set([0]));
  for (const name of path) {
    const next = new Set<number>();
    for (const at of reachable) {
      if (segments[at] === "**") next.add(at === segments.length - 1 ? at + 1 : at);
      else if (at < segments.length && matchPath(segments[at] ?? "", name)) next.add(at + 1);
    }
    reachable = closure(segments, next);
    if (reachable.has(segments.length)) return true;
  }
  return false;
}

/** `**` may also stand for nothing, but at the end it wants something: `a/**` is what is in `a`. */
function closure(segments: readonly string[], reachable: Set<number>): Set<number> {
  for (const at of reachable) if (segments[at] === "**" && at < segments.length - 1) reachable.add(at + 1);
  return reachable;
}
