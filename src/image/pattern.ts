/** Shell patterns by the rules of Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]`, `[^a]`, `\x`. */
import { EngineError } from "../base/errors.ts";

/** Throws invalid_argument "syntax error in pattern". */
export function patternOf(pattern: string): RegExp {
  let source = "";
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern.charAt(at);
    if (char === "*") source += "[^/]*";
    else if (char === "?") source += "[^/]";
    else if (char === "[") {
      const set = /^\[(\^|(?!\^))((?:\\.|[^\\\]])+)\]/s.exec(pattern.slice(at));
      if (set === null) throw malformed();
      source += `[${set[1] ?? ""}${membersOf(set[2] ?? "")}]`;
      at += set[0].length - 1;
    } else if (char === "\\") {
      if (++at >= pattern.length) throw malformed();
      source += literal(pattern.charAt(at));
    } else source += literal(char);
  }
  return new RegExp(`^${source}$`, "s");
}

function membersOf(set: string): string {
  let members = "";
  for (const [, low = "", high] of set.matchAll(/(\\.|[^\\])(?:-(\\.|[^\\]))?/gs)) {
    const [from, to] = [low.slice(-1), (high ?? low).slice(-1)];
    if (from > to || low === "-") throw malformed();
    members += `${literal(from)}-${literal(to)}`;
  }
  return members;
}

const literal = (char: string): string => char.replace(/[\\^$.*+?()[\]{}|/-]/, "\\$&");
const malformed = (): EngineError => new EngineError("invalid_argument", "syntax error in pattern");
