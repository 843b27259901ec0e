/**
 * The seeds' story on the live engine with the unmodified docker CLI, once with random names, sizes, contents and order
 * of instructions (`STRATA_SEED` repeats a run): history, diff and sizes are held against what the test itself wrote,
 * and against a walk of the saved tars. Where the acceptance scripts are at hand they run too.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cannotMakePool, zfsHome } from "../src/storage-driver/zfs/zfs-pool.fixture.ts";
import { busyboxTar, command, type Daemon, scratchFolder, startStrata, succeed } from "./support/engine.ts";
import { seededRandom } from "./support/random.ts";

const acceptance = new URL("../../shared/acceptance/seed-story.sh", import.meta.url).pathname;
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);

type Step = { readonly line: string; readonly bytes: number; readonly layer: boolean };

/** A build context and a Dockerfile over `base` in random order; every step knows what it weighs. */
function randomBuild(folder: string, base: string, random: () => number): readonly Step[] {
  const name = (): string => `n${Math.floor(random() * 1e9).toString(36)}`;
  const size = (): number => Math.floor(random() * 200_000);
  const copy = (): Step => {
    const directory = name();
    mkdirSync(join(folder, directory));
    let bytes = 0;
    for (let i = 0; i <= random() * 6; i++) {
      const content = randomBytes(size());
      bytes += content.length;
      writeFileSync(join(folder, directory, `${name()}${i}`), content);
    }
    return { line: `COPY ${directory} /srv/${directory}`, bytes, layer: true };
  };
  // A RUN that changes nothing makes no layer.
  let temporary = false;
  const write = (): Step => {
    const bytes = size();
    temporary = true;
    return { line: `RUN head -c ${bytes} /dev/zero > /tmp/${name()}`, bytes, layer: true };
  };
  const remove = (): Step => {
    const layer = temporary;
    temporary = false;
    return { line: "RUN rm -rf /tmp/*", bytes: 0, layer };
  };
  const label = (): Step => ({ line: `LABEL ${name()}="${name()}"`, bytes: 0, layer: false });
  const env = (): Step => ({ line: `ENV ${name()}=${name()}`, bytes: 0, layer: false });
  const makers = [copy, write, write, remove, label, env];
  const steps = Array.from({ length: 5 + Math.floor(random() * 5) }, () =>
    (makers[Math.floor(random() * makers.length)] ?? copy)(),
  );
  steps.push({ line: 'CMD ["sh"]', bytes: 0, layer: false });
  writeFileSync(join(folder, "Dockerfile"), [`FROM ${base}`, ...steps.map(({ line }) => line), ""].join("\n"));
  return steps;
}

/** Bytes of regular files in each layer of a saved image, lowest first: an outside walk with GNU tar. */
async function savedLayerSizes(daemon: Daemon, image: string, scratch: string): Promise<readonly number[]> {
  const folder = join(scratch, "saved");
  await succeed("bash", ["-c", 'rm -rf "$1"; mkdir "$1"', "bash", folder]);
  await daemon.ok(["save", "-o", join(folder, "image.tar"), image]);
  await succeed("tar", ["-C", folder, "-xf", join(folder, "image.tar")]);
  const manifest: unknown = JSON.parse(await succeed("cat", [join(folder, "manifest.json")]));
  assert.ok(Array.isArray(manifest));
  const sizes: number[] = [];
  for (const layer of manifest[0].Layers) {
    const rows = await succeed("tar", ["-tvf", join(folder, layer), "--numeric-owner"]);
    const files = rows.split("\n").filter((row) => row.startsWith("-"));
    sizes.push(files.reduce((sum, row) => sum + Number(row.split(/\s+/)[2]), 0));
  }
  return sizes;
}

type Home = AsyncDisposable & { readonly path: string };

/** Where the data root of each driver's story is; without ZFS that story is skipped. */
const stories: readonly {
  readonly driver: string;
  readonly home?: () => Promise<Home>;
  readonly skip?: string | false;
}[] = [
  { driver: "overlay2" },
  { driver: "fuse-overlayfs" },
  { driver: "zfs", home: zfsHome, skip: cannotMakePool() },
  { driver: "vfs" },
];

for (const { driver, home, skip = false } of stories) {
  describe(`the story on ${driver} (seed ${seed})`, { skip }, () => {
    const stack = new AsyncDisposableStack();
    const scratch = scratchFolder();
    const random = seededRandom(seed);
    const base = `base-${Math.floor(random() * 1e6)}`;
    const image = `final-${Math.floor(random() * 1e6)}:1.0`;
    let daemon: Daemon;
    let steps: readonly Step[];

    before(async () => {
      const above = home === undefined ? scratch.path : stack.use(await home()).path;
      daemon = await startStrata({ root: join(scratch.path, "strata"), dataRoot: join(above, "data"), driver });
      await daemon.ok(["import", await busyboxTar(join(scratch.path, "busybox.tar")), base]);
      const context = join(scratch.path, "context");
      mkdirSync(context);
      steps = randomBuild(context, base, random);
      await daemon.ok(["build", "-q", "-t", image, context]);
    });

    after(async () => {
      await daemon
        .ok(["ps", "-aq"])
        .then(async (ids) => ids !== "" && (await daemon.ok(["rm", "-f", "-v", ...ids.split("\n")])));
      await daemon.stop();
      await stack.disposeAsync();
      scratch[Symbol.dispose]();
    });

    test("history has a row for each instruction, and each weighs what it wrote", async () => {
      const rows = (await daemon.ok(["history", "--no-trunc", "--human=false", "--format", "{{.Size}}", image])).split(
        "\n",
      );
      const expected = steps.map(({ bytes }) => String(bytes)).reverse();
      assert.deepEqual(rows.slice(0, steps.length), expected);
    });

    test("only instructions that change files make a layer, and the saved tars weigh the same", async () => {
      const sizes = await savedLayerSizes(daemon, image, scratch.path);
      const expected = steps.filter(({ layer }) => layer).map(({ bytes }) => bytes);
      assert.deepEqual(sizes.slice(1), expected);
      const total = Number(await daemon.ok(["image", "inspect", "-f", "{{.Size}}", image]));
      assert.equal(
        total,
        sizes.reduce((sum, size) => sum + size, 0),
      );
    });

    test("five containers weigh nothing, one that writes grows by what it wrote, and diff says what", async () => {
      const names = [1, 2, 3, 4, 5].map((i) => `c${i}-${seed}`);
      for (const name of names) await daemon.ok(["run", "-dit", "--network", "host", "--name", name, image]);
      const sizes = async (): Promise<Record<string, string>> => {
        const rows = await daemon.ok(["ps", "-s", "--no-trunc", "--format", "{{.Names}} {{.Size}}"]);
        return Object.fromEntries(rows.split("\n").map((row) => [row.split(" ")[0], row.split(" ")[1]]));
      };
      assert.deepEqual(await sizes(), Object.fromEntries(names.map((name) => [name, "0B"])));
      const bytes = 1 + Math.floor(random() * 900);
      await daemon.ok(["exec", names[0] ?? "", "sh", "-c", `head -c ${bytes} /dev/zero > /written`]);
      assert.equal((await sizes())[names[0] ?? ""], `${bytes}B`);
      assert.equal((await sizes())[names[1] ?? ""], "0B");
      assert.equal(await daemon.ok(["diff", names[0] ?? ""]), "A /written");
    });

    test("a write from outside through /proc/PID/root shows in the next figure", async () => {
      const name = `c2-${seed}`;
      const pid = await daemon.ok(["inspect", "-f", "{{.State.Pid}}", name]);
      for (const bytes of [10, 345, 7]) {
        writeFileSync(`/proc/${pid}/root/outside`, Buffer.alloc(bytes));
        const row = await daemon.ok(["ps", "-s", "--filter", `name=${name}`, "--format", "{{.Size}}"]);
        assert.match(row, new RegExp(`^${bytes}B `));
      }
    });

    test("the stock acceptance story passes", {
      skip: existsSync(acceptance) ? false : "the acceptance scripts are not here",
    }, async () => {
      const { code, stdout, stderr } = await command("bash", [acceptance], {
        env: { DOCKER_HOST: daemon.host },
        deadline: 300_000,
      });
      const failed = stdout.split("\n").filter((line) => line.startsWith("FAIL"));
      assert.deepEqual({ code, failed }, { code: 0, failed: [] }, stderr);
      assert.match(stdout, /62 passed, 0 failed/);
    });
  });
}
