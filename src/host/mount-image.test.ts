import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { MountStep } from "../base/mount.ts";
import { attachLoop, backingFile, findLoop, takeLoop } from "./loop-device.ts";
import { mountAll, mountAllAsync, mountTable, unmountAll } from "./mount.ts";
import { openImage } from "./mount-image.ts";
import { mkdirat } from "./sys.ts";

const skip = process.getuid?.() === 0 && existsSync("/dev/loop-control") ? false : "needs root and loop devices";

let directory = "";
let step: Extract<MountStep, { kind: "image" }>;
const at = (name: string): string => join(directory, name);

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "strata-image-"));
  for (const name of ["a", "b", "lower"]) mkdirSync(at(name));
  writeFileSync(at("lower/below"), "below");
  const image = await open(at("image"), "wx");
  await image.truncate(16 << 20);
  await image.close();
  execFileSync("mkfs.ext4", ["-q", "-F", "-b", "4096", at("image")], {
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  step = { kind: "image", type: "ext4", file: at("image"), options: ["discard"] };
});

/** Files below the scratch folder that have a loop device. */
function loops(): string[] {
  const numbers = readdirSync("/sys/block").flatMap((name) => /^loop(\d+)$/.exec(name)?.[1] ?? []);
  return numbers.flatMap((number) => backingFile(Number(number)) ?? []).filter((file) => file.startsWith(directory));
}

async function assertNothingLeft(): Promise<void> {
  for (let tries = 0; tries < 200 && loops().length > 0; tries++) await sleep(25);
  assert.deepEqual(loops(), []);
  assert.deepEqual(
    mountTable().filter(({ target }) => target.startsWith(directory)),
    [],
  );
}

afterEach(async () => {
  for (const name of ["a", "b"]) unmountAll(at(name));
  await assertNothingLeft();
});
after(() => rmSync(directory, { recursive: true }));

for (const [how, mountSteps] of [
  ["at once", async (steps: readonly MountStep[], target: string) => mountAll(steps, target)],
  ["without waiting", mountAllAsync],
] as const)
  test(`an image is mounted ${how}, twice with one device, and an overlay writes into it`, { skip }, async () => {
    {
      using root = openImage(step);
      for (const name of ["up", "work"])
        if (!existsSync(`/proc/self/fd/${root.fd}/${name}`)) mkdirat(root.fd, name, 0o755);
      assert.deepEqual(loops(), [at("image")]);
    }
    const overlay = { kind: "overlay", lower: [at("lower")], upper: "up", work: "work" } as const;
    await mountSteps([step, overlay], at("a"));
    await mountSteps([step], at("b"));
    assert.deepEqual(loops(), [at("image")]);
    writeFileSync(at("a/file"), how);
    assert.equal(readFileSync(at("b/up/file"), "utf8"), how);
    assert.deepEqual(readdirSync(at("a")).toSorted(), ["below", "file"]);
    const types = mountTable().filter(({ target }) => target === at("a"));
    assert.deepEqual(
      types.map(({ type, propagation }) => `${type} ${propagation}`),
      ["ext4 private", "overlay private"],
    );
    unmountAll(at("a"));
    assert.equal(readFileSync(at("b/up/file"), "utf8"), how);
  });

test("a step that fails after the image takes the image away, and what it says names the file", { skip }, async () => {
  const broken = { kind: "overlay", lower: [at("lower")], upper: "nowhere", work: "work" } as const;
  await assert.rejects(mountAllAsync([step, broken], at("a")), /nowhere/);
  await assertNothingLeft();
  writeFileSync(at("empty"), "");
  for (const file of [at("empty"), at("absent")])
    await assert.rejects(mountAllAsync([{ ...step, file }], at("a")), (error: Error) => error.message.includes(file));
});

test("the device over a file is found by the file, and goes with its last user", { skip }, async () => {
  await using file = await open(at("image"), "r+");
  assert.equal(findLoop(file.fd), undefined);
  {
    using first = attachLoop(file.fd, { direct: true, blockSize: 4096 });
    using second = attachLoop(file.fd);
    assert.equal(second.path, first.path);
    await using other = await open(at("lower/below"), "r");
    assert.equal(findLoop(other.fd), undefined);
    assert.deepEqual(loops(), [at("image")]);
  }
  await assertNothingLeft();
  {
    using _taken = takeLoop(file.fd);
    assert.deepEqual(loops(), [at("image")]);
  }
});
