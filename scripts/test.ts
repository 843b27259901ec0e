/**
 * `npm test`: every test of the project, in a mount namespace of its own, so that whatever a failing test leaves mounted
 * dies with it. Prints node's totals. A whole run in CI (`CI=true`) also fails when a suite that must run on the real kernel
 * did not, or when anything was skipped: a skip there hides a missing package.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { glob } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Contract, driver and filesystem of the conformance suites that must have run. */
const mustRun = [
  "conformance: overlay2 on the scratch filesystem",
  "conformance: overlay2 on xfs",
  "conformance: overlay2 in a user namespace",
  "conformance: overlay2 by mount(2) alone",
  "conformance: vfs on the scratch filesystem",
  "conformance: vfs on xfs",
  "conformance: btrfs",
  "conformance: fuse-overlayfs on the scratch filesystem",
  "conformance: fuse-overlayfs on xfs",
  "conformance: zfs on zfs-fuse",
  "a random chain is the same tree on every driver",
  "a random chain is the same tree on fuse-overlayfs",
  "a random chain is the same tree on zfs",
  "conformance: an outside driver on the scratch filesystem",
  "conformance: an outside driver on xfs",
  "volume driver encrypted",
  "volume driver btrfs",
  "volume driver btrfs on a device",
  "volume driver local",
  "volumes that hang",
  "volume driver local on btrfs",
  "volume driver zfs",
  "volume driver glusterfs",
  "volume driver s3",
  "volume driver sshfs",
  "the story on overlay2",
  "the story on fuse-overlayfs",
  "the story on zfs",
  "the story on vfs",
  "a stock dockerd uses the drivers as a plugin, and either side may be killed",
  "volumes that programs serve",
  "podman uses the drivers as a plugin, which may be killed",
  "overlay2: one call fails",
  "vfs: one call fails",
  "a full data root on overlay2",
];

const root = new URL("..", import.meta.url).pathname;
const asked = process.argv.slice(2);
const files: string[] = [...asked];
if (asked.length === 0)
  for await (const file of glob(["src/**/*.test.ts", "test/**/*.test.ts", "examples/**/*.test.ts"], { cwd: root }))
    files.push(file);
files.sort();

const scratch = mkdtempSync(join(tmpdir(), "strata-test-"));
const record = join(scratch, "record.tap");
const reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"];
const recorder = ["--test-reporter=tap", `--test-reporter-destination=${record}`];
const limits = ["--test-concurrency=2", "--test-timeout=600000"];
const node = [process.execPath, "--test", ...limits, ...reporters, ...recorder, ...files];
// In CI a failure is a change's: random tests take one seed there, and another on every run elsewhere.
const env = process.env.CI === "true" ? { STRATA_SEED: "20261121", ...process.env } : process.env;
const asRoot = process.getuid?.() === 0;
const [program = "", ...rest] = asRoot ? ["unshare", "--mount", "--propagation", "private", ...node] : node;
const child = spawn(program, rest, { cwd: root, env, stdio: "inherit" });
const [code] = await once(child, "exit");
process.exitCode = typeof code === "number" ? code : 1;

if (process.env.CI === "true" && asked.length === 0) {
  const text = readFileSync(record, "utf8");
  const missing = mustRun.filter((name) => !text.includes(`# Subtest: ${name}`));
  // Recorded answers and acceptance scripts are not part of the project.
  const skipped = text.split("\n").filter((line) => / # SKIP(?!.*(not at hand|are not here))/i.test(line));
  for (const name of missing) process.stderr.write(`strata: the suite "${name}" must run, and did not\n`);
  for (const line of skipped) process.stderr.write(`strata: skipped, though nothing may be: ${line.trim()}\n`);
  if (missing.length > 0 || skipped.length > 0) process.exitCode = 1;
}
rmSync(scratch, { recursive: true });
