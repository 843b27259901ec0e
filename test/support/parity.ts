/**
 * The same docker command given to Strata and to a stock dockerd; what both print is made comparable: ids, times and
 * paths that each engine chooses are replaced by words.
 */
import assert from "node:assert/strict";
import type { CommandOptions, Daemon } from "./engine.ts";

export type Pair = { readonly strata: Daemon; readonly dockerd: Daemon };

export type ParityOptions = CommandOptions & {
  /** Compare only exit code and stdout: where a newer API words an error better than the peer does. */
  readonly looseText?: boolean;
  readonly sort?: boolean;
  /** Compare the exit code alone. */
  readonly onlyCode?: boolean;
};

/** Replaces what differs by nature. */
export function comparable(text: string, daemon: Daemon): string {
  return text
    .replaceAll(daemon.dataRoot, "<data>")
    .replaceAll(daemon.execRoot, "<exec>")
    .replace(/sha256:[0-9a-f]{64}/g, "<digest>")
    .replace(/\b[0-9a-f]{64}\b/g, "<id>")
    .replace(/\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b/g, "<short>")
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)/g, "<time>")
    .replace(/(About )?(an?|\d+|Less than a) (second|minute|hour)s?( ago)?/g, "<ago>")
    .replace(/\s*Run 'docker [a-z ]+--help' for more information\n?/g, "")
    .trimEnd();
}

const sorted = (text: string): string => text.split("\n").sort().join("\n");

/** Runs the command on both and holds the answers against each other. */
export async function same(pair: Pair, args: readonly string[], options: ParityOptions = {}): Promise<void> {
  const answers = [];
  for (const daemon of [pair.dockerd, pair.strata]) {
    const { code, stdout, stderr } = await daemon.docker(args, options);
    const order = options.sort === true ? sorted : (text: string): string => text;
    if (options.onlyCode === true) {
      answers.push({ code });
      continue;
    }
    const out = order(comparable(stdout, daemon));
    answers.push({
      code,
      stdout: out,
      stderr: options.looseText === true ? stderr !== "" : comparable(stderr, daemon),
    });
  }
  assert.deepEqual(answers[1], answers[0], `docker ${args.join(" ")} (expected: what dockerd says)`);
}
