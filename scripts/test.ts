/**
 * `npm test`: every test of the project, in a mount namespace of its own, so that whatever a failing test leaves mounted
 * dies with it. Prints node's totals last.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { glob } from "node:fs/promises";

const root = new URL("..", import.meta.url).pathname;
const files = process.argv.slice(2);
if (files.length === 0) {
  for await (const file of glob(["src/**/*.test.ts", "test/**/*.test.ts"], { cwd: root })) files.push(file);
}
files.sort();

const node = [process.execPath, "--test", "--test-concurrency=2", "--test-timeout=600000", ...files];
const asRoot = process.getuid?.() === 0;
const [program = "", ...rest] = asRoot ? ["unshare", "--mount", "--propagation", "private", ...node] : node;
const child = spawn(program, rest, { cwd: root, stdio: "inherit" });
const [code] = await once(child, "exit");
process.exitCode = typeof code === "number" ? code : 1;
