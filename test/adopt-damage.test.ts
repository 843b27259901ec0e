/**
 * `strata adopt` where not all is well: a damaged data root costs what stands over the damage and nothing else, and a
 * kill at any time leaves whole objects only, so that the next run brings the rest.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { adoptDockerRoot } from "../src/adopt/adopt.ts";
import { checkDataRoot } from "../src/check/check.ts";
import { mountTable } from "../src/host/mount.ts";
import { exportedTree, makeDockerRoot } from "./support/docker-root.ts";
import { command, dockerdIsHere, scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";

const strata = new URL("../bin/strata", import.meta.url).pathname;
const chain = /^sha256:[0-9a-f]{64}$/;

type Item = {
  readonly kind: string;
  readonly name: string;
  readonly outcome: string;
  readonly reason?: string;
  readonly notes?: readonly string[];
};
type Report = { readonly items: readonly Item[]; readonly problems: readonly string[] };

const skip = dockerdIsHere() ? false : "no dockerd is installed";

describe("adopting from a data root that dockerd wrote with overlay2", { skip }, () => {
  let scratch: ReturnType<typeof scratchFolder>;
  let original = "";

  before(async () => {
    scratch = scratchFolder();
    original = join(scratch.path, "docker");
    await (await makeDockerRoot(scratch.path, original, "overlay2")).stop();
    await unmountBelow(original);
  });
  after(async () => {
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const argumentsOf = (name: string, ...more: readonly string[]): readonly string[] => {
    const root = join(scratch.path, name);
    return ["adopt", "--data-root", join(root, "data"), "--exec-root", join(root, "exec"), ...more];
  };

  async function adopt(from: string, name: string): Promise<Report & { readonly code: number }> {
    const { code, stdout, stderr } = await command(strata, [...argumentsOf(name), "--json", from]);
    assert.notEqual(code, 2, stderr);
    return { ...(JSON.parse(stdout) as Report), code };
  }

  /** What check has to say of what was adopted, but for the container whose image dockerd had removed. */
  async function problems(name: string): Promise<readonly { readonly kind: string }[]> {
    const root = join(scratch.path, name);
    if (!existsSync(join(root, "data/meta.db"))) return [];
    const report = await checkDataRoot({ dataRoot: join(root, "data"), execRoot: join(root, "exec") });
    return report.problems.filter(({ object }) => !object.startsWith("container orphan "));
  }

  const image = (reference: string): string => {
    const text = readFileSync(join(original, "image/overlay2/repositories.json"), "utf8");
    const { Repositories } = JSON.parse(text) as { Repositories: Record<string, Record<string, string>> };
    return Repositories[reference.split(":")[0] ?? ""]?.[reference]?.slice("sha256:".length) ?? "";
  };

  test("a damaged layer, config or volume is named and skipped with what needs it; the rest comes, and after mending all of it", async () => {
    const copy = join(scratch.path, "damaged");
    await succeed("cp", ["-a", original, copy]);
    const layers = join(copy, "image/overlay2/layerdb/sha256");
    const config = JSON.parse(
      readFileSync(join(copy, "image/overlay2/imagedb/content/sha256", image("odd:1")), "utf8"),
    );
    const [bottom] = config.rootfs.diff_ids as [string];
    assert.match(bottom, chain);
    const cache = readFileSync(join(layers, bottom.slice(7), "cache-id"), "utf8");
    const [file, volume, settings] = [
      join(copy, "overlay2", cache, "diff/data/one"),
      join(copy, "volumes/many-3/_data"),
      join(copy, "containers", containerNamed(copy, "fresh"), "hostconfig.json"),
    ];
    // Same size, other content: only the digest tells.
    writeFileSync(file, "ONE");
    renameSync(volume, `${volume}.away`);
    renameSync(settings, `${settings}.away`);
    appendFileSync(join(copy, "image/overlay2/imagedb/content/sha256", image("app:1")), " ");
    const first = await adopt(copy, "mended");
    assert.equal(first.code, 1);
    assert.deepEqual(first.problems, []);
    const skipped = new Map(
      first.items.filter(({ outcome }) => outcome === "skipped").map((item) => [item.name, item.reason ?? ""]),
    );
    const lost = new RegExp(`^layer ${bottom}: layer tar has digest sha256:[0-9a-f]{64}, expected ${bottom}`);
    assert.match(skipped.get("odd:1") ?? "", lost);
    assert.match(skipped.get("changed") ?? "", lost);
    assert.match([...skipped].find(([name]) => name.startsWith("app:1"))?.[1] ?? "", /its config has another digest/);
    assert.match(skipped.get("many-3") ?? "", /its folder _data is missing/);
    assert.match([...skipped].find(([name]) => /^[0-9a-f]{64}$/.test(name))?.[1] ?? "", /hostconfig.json is missing/);
    for (const { kind, name, outcome } of first.items)
      if (["busybox", "base", "named"].some((known) => name.startsWith(known)))
        assert.equal(outcome, "adopted", `${kind} ${name}`);
    assert.deepEqual(await problems("mended"), []);

    writeFileSync(file, "one");
    renameSync(`${volume}.away`, volume);
    renameSync(`${settings}.away`, settings);
    const content = join("image/overlay2/imagedb/content/sha256", image("app:1"));
    copyFileSync(join(original, content), join(copy, content));
    const second = await adopt(copy, "mended");
    assert.equal(second.code, 0, reasons(second));
    for (const { name, outcome } of first.items.filter(({ outcome: was }) => was === "adopted")) {
      const now = second.items.find((item) => item.name === name)?.outcome;
      assert.equal(now, "present", `${name} was ${outcome}`);
    }
    assert.deepEqual(await problems("mended"), []);
    rmSync(copy, { recursive: true });
  });

  test("what is missing of a layer is told: its folder, its tar-split, a file of it, its record", async () => {
    const copy = join(scratch.path, "missing");
    const config = JSON.parse(
      readFileSync(join(original, "image/overlay2/imagedb/content/sha256", image("busybox:latest")), "utf8"),
    );
    const hex = (config.rootfs.diff_ids as [string])[0].slice(7);
    const cache = readFileSync(join(original, "image/overlay2/layerdb/sha256", hex, "cache-id"), "utf8");
    const losses: readonly (readonly [string, RegExp])[] = [
      [`overlay2/${cache}`, /its folder overlay2\/[0-9a-f]{64}\/diff is missing/],
      [`overlay2/${cache}/diff/bin/busybox`, /"(\.\/)?bin\/busybox" cannot be opened \(ENOENT\)/],
      [`image/overlay2/layerdb/sha256/${hex}/tar-split.json.gz`, /tar-split.json.gz is missing/],
      [`image/overlay2/layerdb/sha256/${hex}`, /dockerd has no record of the layer/],
    ];
    await succeed("cp", ["-a", original, copy]);
    for (const [path, reason] of losses) {
      const lost = join(copy, path);
      renameSync(lost, join(scratch.path, "away"));
      const { items, code } = await adopt(copy, "without");
      renameSync(join(scratch.path, "away"), lost);
      assert.equal(code, 1);
      const found = items.find(({ name }) => name === "busybox:latest");
      assert.equal(found?.outcome, "skipped");
      assert.match(found?.reason ?? "", reason);
    }
    assert.equal((await adopt(copy, "without")).code, 0);
    assert.deepEqual(await problems("without"), []);
  });

  test("a kill at any time leaves whole objects only, and the next run brings the rest", async () => {
    const whole = (await adopt(original, "whole")).items;
    // After so many objects, and then some way into the next.
    for (const done of [0, 3, whole.length - 4, whole.length - 2, whole.length - 1]) {
      const child = spawn(strata, [...argumentsOf("killed"), original], { stdio: ["ignore", "pipe", "inherit"] });
      const ended = once(child, "exit");
      const reached = Promise.withResolvers<void>();
      let lines = 0;
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        lines += text.split("\n").length - 1;
        if (lines >= done) reached.resolve();
      });
      if (done > 0) await Promise.race([reached.promise, ended]);
      await sleep(Math.random() * 60);
      child.kill("SIGKILL");
      await ended;
      // Before anything reconciles: what counts is whole, the rest is known as half-made.
      const halves = new Set([
        "leftover",
        "layer-half-made",
        "layer-data-unknown",
        "layer-recipe-unknown",
        "layer-unused",
        "volume-half-made",
        "container-unknown",
      ]);
      assert.deepEqual(
        (await problems("killed")).filter(({ kind }) => !halves.has(kind)),
        [],
      );
    }
    const rest = await adopt(original, "killed");
    assert.equal(rest.code, 0);
    assert.deepEqual(
      rest.items.map(({ kind, name }) => `${kind} ${name}`),
      whole.map(({ kind, name }) => `${kind} ${name}`),
    );
    assert.ok(
      rest.items.some(({ outcome }) => outcome === "present"),
      "earlier runs brought something",
    );
    assert.deepEqual(await problems("killed"), []);
    assert.deepEqual(
      mountTable().filter(({ target }) => target.startsWith(join(scratch.path, "killed"))),
      [],
    );
  });

  test("names that are taken here stay, and are told", async () => {
    {
      await using daemon = await startStrata({ root: join(scratch.path, "taken") });
      await daemon.ok(["import", join(scratch.path, "more.tar"), "busybox:latest"]);
      await daemon.ok(["create", "--network", "host", "--name", "changed", "busybox", "x"]);
      await daemon.ok(["volume", "create", "--label", "whose=mine", "named"]);
    }
    const done = await adopt(original, "taken");
    const found = new Map(done.items.map((item) => [item.name, item]));
    assert.equal(done.code, 1);
    assert.match(found.get("changed")?.reason ?? "", /^the container [0-9a-f]{12} has its name here: rename/);
    assert.equal(found.get("named")?.outcome, "present");
    assert.equal(found.get("busybox:latest")?.outcome, "adopted");
    assert.match(found.get("busybox:latest")?.notes?.join() ?? "", /the name busybox:latest is left to sha256:/);
    await using daemon = await startStrata({ root: join(scratch.path, "taken") });
    assert.equal(await daemon.ok(["inspect", "-f", "{{.Config.Image}} {{.Path}}", "changed"]), "busybox x");
    const named = await daemon.ok(["inspect", "--type", "image", "-f", "{{.Id}}", "busybox"]);
    assert.notEqual(named, `sha256:${image("busybox:latest")}`);
    assert.equal(await daemon.ok(["volume", "inspect", "-f", "{{.Labels.whose}}", "named"]), "mine");
    assert.equal(
      await daemon.ok(["run", "--rm", "--network", "host", image("busybox:latest"), "echo", "by id"]),
      "by id",
    );
  });

  test("the same in the form that aufs gives it comes as well", async () => {
    const copy = join(scratch.path, "aufs");
    await succeed("cp", ["-a", original, copy]);
    await succeed("bash", ["-c", toAufs, "to-aufs", copy]);
    const done = await adopt(copy, "from-aufs");
    assert.equal(done.code, 0, reasons(done));
    await adopt(original, "from-overlay2");
    const [one, other] = [await changed("from-aufs"), await changed("from-overlay2")];
    assert.deepEqual(one.tree, other.tree);
    // In an aufs branch every directory on the way to a change stands for a change.
    assert.deepEqual(one.diff, other.diff);
    assert.deepEqual(await problems("from-aufs"), []);
  });

  /** What the daemon says of the container that changed things. */
  async function changed(name: string): Promise<{ readonly tree: object; readonly diff: readonly string[] }> {
    await using daemon = await startStrata({ root: join(scratch.path, name) });
    const diff = (await daemon.ok(["diff", "changed"])).split("\n").sort();
    return { tree: await exportedTree(daemon, scratch.path, "changed"), diff };
  }

  test("an interruption ends it in order", async () => {
    const root = join(scratch.path, "stopped");
    const stopping = new AbortController();
    let ended = 0;
    const tell = ({ event }: { readonly event: string }): void => {
      // In the middle of an image's layer.
      if (event === "end") ended++;
      else if (event === "bytes" && ended > 17) stopping.abort(new Error("enough"));
    };
    const roots = { dataRoot: join(root, "data"), execRoot: join(root, "exec") };
    await assert.rejects(adoptDockerRoot({ from: original, ...roots, tell, signal: stopping.signal }), /enough/);
    assert.ok(ended > 17);
    assert.deepEqual(await problems("stopped"), []);
    assert.deepEqual(
      mountTable().filter(({ target }) => target.startsWith(root)),
      [],
    );
    assert.deepEqual(readdirSync(join(root, "exec/mnt")), []);
    assert.equal((await adopt(original, "stopped")).code, 0);
  });
});

/** Whiteouts and opaque marks as aufs names them, its own files, and the driver's name in every record. */
const toAufs = `set -e; cd "$1"; mv image/overlay2 image/aufs; mkdir -p aufs/diff aufs/layers; rm -r overlay2/l
for folder in overlay2/*; do mv "$folder/diff" "aufs/diff/\${folder#*/}"; done; rm -r overlay2
cd aufs/diff
for branch in *; do mkdir "$branch/.wh..wh.plnk" "$branch/.wh..wh.orph"; : >"$branch/.wh..wh.aufs"; done
find . -type c -exec stat -c '%t:%T %n' {} + | sed -n 's/^0:0 //p' | while read -r gone; do
  rm "$gone"; ln "\${gone%"\${gone#./*/}"}.wh..wh.aufs" "\${gone%/*}/.wh.\${gone##*/}"; done
getfattr -R -h -m trusted.overlay.opaque . 2>/dev/null | sed -n 's/^# file: //p' | while read -r hidden; do
  setfattr -x trusted.overlay.opaque "$hidden"; : >"$hidden/.wh..wh..opq"; done
getfattr -R -h -m '^trusted.overlay' . 2>/dev/null | while read -r first second third; do
  case $first in '#') at=$third ;; trusted.overlay.*) setfattr -h -x "$first" "$at" 2>/dev/null || true ;; esac; done
sed -i 's/"Driver":"overlay2"/"Driver":"aufs"/' ../../containers/*/config.v2.json`;

const reasons = ({ items }: Report): string =>
  items.map(({ kind, name, reason }) => (reason === undefined ? "" : `${kind} ${name}: ${reason}\n`)).join("");

function containerNamed(root: string, name: string): string {
  const folder = join(root, "containers");
  const found = readdirSync(folder).find(
    (id) => JSON.parse(readFileSync(join(folder, id, "config.v2.json"), "utf8")).Name === `/${name}`,
  );
  assert.ok(found !== undefined);
  return found;
}
