/**
 * `strata adopt` on data roots that a stock dockerd wrote: what dockerd said of its images, containers and volumes, our
 * daemon says too; the source is the same afterwards, to the last time and attribute; kills on the way lose nothing.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkDataRoot } from "../src/check/check.ts";
import { makeLoopFilesystem } from "../src/host/loop.ts";
import { mountTable } from "../src/host/mount.ts";
import { exportedTree, makeDockerRoot, picture, testimony } from "./support/docker-root.ts";
import {
  type CommandResult,
  command,
  type Daemon,
  dockerdIsHere,
  scratchFolder,
  startStrata,
  unmountBelow,
} from "./support/engine.ts";

const strata = new URL("../bin/strata", import.meta.url).pathname;

type Roots = { readonly source: string; readonly root: string; readonly driver: string };

const adopt = ({ source, root, driver }: Roots, ...more: readonly string[]): Promise<CommandResult> =>
  command(strata, [
    "adopt",
    source,
    "--data-root",
    join(root, "data"),
    "--exec-root",
    join(root, "exec"),
    "-s",
    driver,
    ...more,
  ]);

const cases = [
  { from: "overlay2", to: "overlay2" },
  { from: "vfs", to: "overlay2" },
  { from: "btrfs", to: "vfs" },
] as const;

for (const { from, to } of cases)
  describe(`adopting from ${from} to ${to}`, { skip: dockerdIsHere() ? false : "no dockerd is installed" }, () => {
    test("everything is as dockerd said, and the source is as it was", async () => {
      using scratch = scratchFolder();
      await using cleanup = new AsyncDisposableStack();
      cleanup.defer(() => unmountBelow(scratch.path));
      const size = 512 << 20;
      const base =
        from === "btrfs"
          ? cleanup.use(await makeLoopFilesystem({ type: "btrfs", size, directory: scratch.path })).path
          : scratch.path;
      const roots: Roots = { source: join(base, "docker"), root: join(scratch.path, "run"), driver: to };
      const dockerd = await makeDockerRoot(scratch.path, roots.source, from);
      const busy = await adopt(roots);
      const said = await testimony(dockerd, scratch.path).finally(() => dockerd.stop());
      assert.deepEqual([busy.code, /a dockerd runs on/.test(busy.stderr)], [2, true], busy.stderr);
      await unmountBelow(roots.source);
      nameByDigest(roots.source, from);
      const before = await picture(roots.source);
      const plan = JSON.parse((await adopt(roots, "--dry-run", "--json")).stdout);
      assert.deepEqual(new Set(plan.items.map(({ outcome }: { outcome: string }) => outcome)), new Set(["planned"]));
      assert.equal(existsSync(join(roots.root, "data")), false, "a dry run makes no data root");
      const done = await adopt(roots, "--json");
      assert.equal(done.code, 0, done.stderr + done.stdout);
      assert.deepEqual(
        outcomes(done),
        plan.items.map(({ kind, name }: Named) => `${kind} ${name} adopted`),
      );
      const again = await adopt(roots, "--json");
      assert.deepEqual(new Set(outcomes(again).map((line) => line.split(" ").at(-1))), new Set(["present"]));
      assert.equal(await picture(roots.source), before);
      assert.deepEqual(
        mountTable().filter(({ target }) => target.startsWith(roots.root)),
        [],
      );
      await using daemon = await startStrata({ root: roots.root, driver: to });
      await compare(said, await testimony(daemon, scratch.path));
      const tree = await exportedTree(daemon, scratch.path, "changed", "*");
      assert.match(tree["/data/labelled"] ?? "", /user\.note=6b657074/);
      const made = await daemon.ok(["volume", "inspect", "-f", "{{.CreatedAt}}", "named"]);
      const { ctimeMs } = statSync(join(roots.source, "volumes/named"));
      assert.equal(Date.parse(made), Math.trunc(ctimeMs / 1000) * 1000);
      if (to === "overlay2") await keepsTimes(daemon, roots.source, from);
      await works(daemon);
      await daemon.stop();
      const checked = await checkDataRoot({ dataRoot: join(roots.root, "data"), execRoot: join(roots.root, "exec") });
      assert.deepEqual(checked.problems, []);
    });
  });

/** No archive that a daemon gives has them whole. */
async function keepsTimes({ ok }: Daemon, source: string, driver: string): Promise<void> {
  const [id, upper = ""] = (await ok(["inspect", "-f", "{{.Id}} {{.GraphDriver.Data.UpperDir}}", "changed"])).split(
    " ",
  );
  const mountId = readFileSync(join(source, "image", driver, `layerdb/mounts/${id}/mount-id`), "utf8");
  const tree = driver === "overlay2" ? join(source, "overlay2", mountId, "diff") : join(source, "vfs/dir", mountId);
  const times = (root: string): bigint[] =>
    ["new", "new/deep/file"].map((path) => statSync(join(root, path), { bigint: true }).mtimeNs);
  assert.deepEqual(times(upper), times(tree));
}

const digest = `sha256:${"5".repeat(64)}`;

/** As a pull does, for which there is no registry here. */
function nameByDigest(source: string, driver: string): void {
  const path = join(source, "image", driver, "repositories.json");
  const document = JSON.parse(readFileSync(path, "utf8"));
  const { busybox } = document.Repositories;
  busybox[`busybox@${digest}`] = busybox["busybox:latest"];
  writeFileSync(path, JSON.stringify(document));
}

type Named = { readonly kind: string; readonly name: string; readonly outcome: string };

const outcomes = ({ stdout }: CommandResult): string[] =>
  JSON.parse(stdout).items.map(({ kind, name, outcome }: Named) => `${kind} ${name} ${outcome}`);

/** One by one, so that a difference is told by its name. */
async function compare(
  said: Readonly<Record<string, unknown>>,
  says: Readonly<Record<string, unknown>>,
): Promise<void> {
  for (const [what, by] of Object.entries(said)) assert.deepEqual(says[what], by, what);
  assert.deepEqual(Object.keys(says), Object.keys(said));
}

/** Adopted containers run, commit and go, and their volumes with what is in them. */
async function works({ ok, docker }: Daemon): Promise<void> {
  assert.equal(await ok(["ps", "-q"]), "", "what was stopped stays so");
  await ok(["start", "base"]);
  assert.equal(await ok(["exec", "base", "echo", "alive"]), "alive");
  const seen = await ok([
    "run",
    "--rm",
    "--network",
    "host",
    "--volumes-from",
    "changed",
    "app:1",
    "sh",
    "-c",
    "cat /vol/file /from-image/file",
  ]);
  assert.equal(seen, "volume\nanonymous");
  assert.equal(await ok(["start", "-a", "orphan"]), "lone", "its image was removed before");
  const ports = await docker(["start", "ports"]);
  assert.match(ports.stderr, /publishing ports is not supported/);
  assert.equal(await ok(["inspect", "-f", "{{index .RepoDigests 0}}", "busybox"]), `busybox@${digest}`);
  assert.match(await ok(["run", "--rm", "--network", "host", `busybox@${digest}`, "echo", "digest"]), /digest/);
  await ok(["commit", "changed", "committed"]);
  assert.equal(await ok(["run", "--rm", "--network", "host", "committed", "cat", "/new/deep/file"]), "x");
  assert.equal((await docker(["volume", "rm", "named"])).code, 1, "the container holds its volume");
  await ok(["rm", "-f", "-v", "base", "changed", "fresh", "orphan", "ports"]);
  assert.match(await ok(["volume", "ls", "-q"]), /named/);
}
