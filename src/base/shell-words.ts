/**
 * Words as a Dockerfile means them (not as a shell does): quotes, the escape character, and variables
 * `$x`, `${x}`, `${x:-default}`, `${x:+instead}`, `${x:?message}`, each also without the colon.
 * Behaviour follows BuildKit's `frontend/dockerfile/shell`.
 */
import { EngineError } from "./errors.ts";

export type WordOptions = {
  /** The Dockerfile's escape character; backslash unless a directive says otherwise. */
  readonly escapeChar?: string;
};

export type Variables = (name: string) => string | undefined;

/** Splits at blanks outside quotes; the quotes and escapes stay in the words. */
export function splitWords(text: string, { escapeChar = "\\" }: WordOptions = {}): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (quote === "" && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word = (word ?? "") + char;
    if (char === escapeChar && quote !== "'" && at + 1 < text.length) word += text.charAt(++at);
    else if (quote === "" && (char === "'" || char === '"')) quote = char;
    else if (char === quote) quote = "";
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** One word with quotes taken off and variables put in. Throws invalid_argument for an open quote or brace. */
export function expandWord(word: string, variables: Variables, { escapeChar = "\\" }: WordOptions = {}): string {
  return new Expansion(word, variables, escapeChar).run().join(" ");
}

/** Like {@link expandWord}, but blanks that stand outside quotes, or come out of a variable there, part words. */
export function expandWords(word: string, variables: Variables, { escapeChar = "\\" }: WordOptions = {}): string[] {
  return new Expansion(word, variables, escapeChar, true).run();
}

/** Looks names up in `NAME=value` strings; a later one wins. */
export function variablesOf(environment: readonly string[]): Variables {
  return (name) => environment.findLast((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

class Expansion {
  readonly #text: string;
  readonly #variables: Variables;
  readonly #escape: string;
  readonly #split: boolean;
  readonly #words: string[] = [];
  #word = "";
  #open = false;
  #at = 0;

  constructor(text: string, variables: Variables, escapeChar: string, split = false) {
    this.#text = text;
    this.#variables = variables;
    this.#escape = escapeChar;
    this.#split = split;
  }

  run(): string[] {
    while (this.#at < this.#text.length) this.#step();
    this.#endWord();
    return this.#split ? this.#words : [this.#words[0] ?? ""];
  }

  #step(): void {
    const char = this.#next();
    if (char === "'") this.#literal(this.#until("'"));
    else if (char === '"') this.#doubleQuoted();
    else if (char === "$") this.#unquoted(this.#variable());
    else if (char === this.#escape) this.#literal(this.#at < this.#text.length ? this.#next() : char);
    else this.#unquoted(char);
  }

  #doubleQuoted(): void {
    let quoted = "";
    for (;;) {
      if (this.#at >= this.#text.length)
        throw bad("unexpected end of statement while looking for matching double-quote");
      const char = this.#next();
      if (char === '"') break;
      if (char === "$") quoted += this.#variable();
      else if (char === this.#escape && this.#at < this.#text.length) {
        const escaped = this.#next();
        quoted += escaped === '"' || escaped === "$" || escaped === this.#escape ? escaped : char + escaped;
      } else quoted += char;
    }
    this.#literal(quoted);
  }

  #variable(): string {
    if (this.#peek() !== "{") {
      const name = this.#name();
      return name === "" ? "$" : (this.#variables(name) ?? "");
    }
    this.#at++;
    const name = this.#name();
    if (name === "") throw bad("syntax error: bad substitution");
    const value = this.#variables(name);
    const char = this.#next();
    if (char === "}") return value ?? "";
    const colon = char === ":";
    const operator = colon ? this.#next() : char;
    const operand = this.#operand();
    const isSet = value !== undefined && !(colon && value === "");
    if (operator === "-") return isSet ? value : operand;
    if (operator === "+") return isSet ? operand : "";
    if (operator !== "?") throw bad(`unsupported modifier (${operator}) in substitution`);
    if (!isSet) throw bad(`${name}: ${operand === "" ? "not allowed to be unset" : operand}`);
    return value;
  }

  /** What stands up to the matching brace, itself expanded. */
  #operand(): string {
    const start = this.#at;
    for (let depth = 1; ; this.#at++) {
      const char = this.#text.charAt(this.#at);
      if (char === "") throw bad("syntax error: missing '}'");
      if (char === this.#escape) this.#at++;
      else if (char === "$" && this.#text.charAt(this.#at + 1) === "{") depth++;
      else if (char === "}" && --depth === 0) break;
    }
    const operand = this.#text.slice(start, this.#at++);
    return expandWord(operand, this.#variables, { escapeChar: this.#escape });
  }

  #name(): string {
    const match = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?\-$!])/.exec(this.#text.slice(this.#at));
    const name = match?.[0] ?? "";
    this.#at += name.length;
    return name;
  }

  #until(end: string): string {
    const close = this.#text.indexOf(end, this.#at);
    if (close < 0) throw bad("unexpected end of statement while looking for matching single-quote");
    const found = this.#text.slice(this.#at, close);
    this.#at = close + 1;
    return found;
  }

  #literal(text: string): void {
    this.#word += text;
    this.#open = true;
  }

  #unquoted(text: string): void {
    for (const char of text) {
      if (this.#split && /\s/.test(char)) this.#endWord();
      else this.#literal(char);
    }
  }

  #endWord(): void {
    if (this.#open) this.#words.push(this.#word);
    this.#word = "";
    this.#open = false;
  }

  #next(): string {
    return this.#text.charAt(this.#at++);
  }

  #peek(): string {
    return this.#text.charAt(this.#at);
  }
}

const bad = (message: string): EngineError => new EngineError("invalid_argument", message);
