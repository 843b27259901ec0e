/** `strata check`, as a person runs it on a stopped engine. */
import assert from "node:assert/strict";
import { command, type Daemon } from "./engine.ts";

const program = new URL("../../bin/strata", import.meta.url).pathname;

type Problem = { readonly kind?: unknown; readonly object?: unknown };

/** What it finds. */
export async function problemsOf({ dataRoot, execRoot }: Daemon): Promise<readonly Problem[]> {
  const roots = ["--data-root", dataRoot, "--exec-root", execRoot];
  const { stdout, stderr } = await command(program, ["check", "--json", ...roots]);
  assert.match(stdout, /"problems"/, `check says: ${stderr}`);
  const { problems } = JSON.parse(stdout) as { readonly problems: readonly Problem[] };
  return problems;
}
