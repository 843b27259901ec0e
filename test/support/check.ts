/** `strata check`, as a person runs it on a stopped engine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { command, type Daemon } from "./engine.ts";

const program = new URL("../../bin/strata", import.meta.url).pathname;

type Problem = { readonly kind?: unknown; readonly object?: unknown };

/** What it finds, but for removed trees that wait to be deleted: a stop does not wait for that. */
export async function problemsOf({ dataRoot, execRoot }: Daemon, driver: string): Promise<readonly Problem[]> {
  const roots = ["--data-root", dataRoot, "--exec-root", execRoot];
  const { stdout, stderr } = await command(program, ["check", "--json", ...roots]);
  assert.match(stdout, /"problems"/, `check says: ${stderr}`);
  const { problems } = JSON.parse(stdout) as { readonly problems: readonly Problem[] };
  return problems.filter(({ object }) => object !== join(dataRoot, driver, "trash"));
}
