/**
 * Shell patterns by the rules of Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]`, `[^a]`, `\\x`. Matching takes at
 * most the product of both lengths, whatever a stranger writes.
 */
import { EngineError } from "../base/errors.ts";

export type Pattern = { readonly test: (text: string) => boolean };

/** One element of a pattern: a test of one character, or a run of any characters but the slash. */
type Element = ((char: string) => boolean) | "star";

/** Throws invalid_argument "syntax error in pattern". */
export function patternOf(pattern: string): Pattern {
  const elements = elementsOf(pattern);
  return { test: (text) => matches(elements, text) };
}

function matches(elements: readonly Element[], text: string): boolean {
  let [at, position, star, mark] = [0, 0, -1, 0];
  while (position < text.length) {
    const element = elements[at];
    if (element === "star") {
      [star, mark] = [at++, position];
    } else if (element?.(text.charAt(position)) === true) {
      at++;
      position++;
    } else {
      // Back to the last star, which takes one character more; it may not take a slash.
      if (star < 0 || text.charAt(mark) === "/") return false;
      [at, position] = [star + 1, ++mark];
    }
  }
  return elements.slice(at).every((element) => element === "star");
}

function elementsOf(pattern: string): readonly Element[] {
  const elements: Element[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern.charAt(at);
    if (char === "*") elements.push("star");
    else if (char === "?") elements.push((other) => other !== "/");
    else if (char === "[") {
      const set = /^\[(\^|(?!\^))((?:\\.|[^\\\]])+)\]/s.exec(pattern.slice(at));
      if (set === null) throw malformed();
      const isMember = membersOf(set[2] ?? "");
      const negated = set[1] === "^";
      elements.push((other) => isMember(other) !== negated);
      at += set[0].length - 1;
    } else if (char === "\\") {
      if (++at >= pattern.length) throw malformed();
      elements.push(literal(pattern.charAt(at)));
    } else elements.push(literal(char));
  }
  return elements;
}

function membersOf(set: string): (char: string) => boolean {
  const ranges: (readonly [string, string])[] = [];
  for (const [, low = "", high] of set.matchAll(/(\\.|[^\\])(?:-(\\.|[^\\]))?/gs)) {
    const [from, to] = [low.slice(-1), (high ?? low).slice(-1)];
    if (from > to || low === "-") throw malformed();
    ranges.push([from, to]);
  }
  return (char) => ranges.some(([from, to]) => from <= char && char <= to);
}

const literal =
  (char: string): ((other: string) => boolean) =>
  (other) =>
    other === char;
const malformed = (): EngineError => new EngineError("invalid_argument", "syntax error in pattern");
