/**
 * Power cuts in a virtual machine: `npm run test:vm`. Nothing that the engine acknowledged is lost, nothing half-made is
 * seen, `strata check` is clean; and an engine that forgets to sync is found out. See docs/power-cuts.md.
 *
 * STRATA_CUTS: cuts for each filesystem. STRATA_REPLAYS: replays for each cut. STRATA_SEED repeats a run's choices.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { command } from "../support/engine.ts";
import { seededRandom } from "../support/random.ts";
import type { Filesystem } from "./audit.ts";
import { makeSystemDisk } from "./guest-disk.ts";
import { findKernel, type Kernel, makeFirstRoot } from "./kernel.ts";
import { liveAndDie, type Plan } from "./lives.ts";
import { makeProjectDisk, type Patch } from "./project-disk.ts";

const cache = new URL("../../node_modules/.cache/strata-vm", import.meta.url).pathname;
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
const cuts = Number(process.env.STRATA_CUTS ?? 10);
const replays = Number(process.env.STRATA_REPLAYS ?? 8);
const filesystems = (process.env.STRATA_FILESYSTEMS ?? "ext4,xfs").split(",") as Filesystem[];
const timeout = 7_200_000;

const systemDisk = join(cache, "system.img");
const found = findKernel(cache);
const qemu = (await command("qemu-system-x86_64", ["--version"]).catch(() => undefined))?.code === 0;
const skip = !qemu
  ? "qemu-system-x86_64 is not installed; npm run test:vm brings it"
  : found === undefined
    ? "there is no kernel for the guest; npm run test:vm brings it"
    : false;

/** Engines that promise too early, by what is changed in the guest's copy of the source. */
const mutants: Readonly<Record<string, Patch>> = {
  "does not sync its layers and volumes": {
    file: "src/host/durable.ts",
    find: "const { result, errno } = await syncfs(handle.fd);",
    put: "const { result, errno } = { result: 0, errno: 0 };",
  },
  "does not sync its records": {
    file: "src/metadata/writer.ts",
    find: 'wanted ? "FULL" : "NORMAL"',
    put: '"OFF"',
  },
};

/** The reporter keeps what a test says until it ends; these take long. */
const say = (line: string): void => void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

describe(`power cuts (seed ${seed})`, { skip, timeout }, () => {
  let kernel: Kernel;
  before(async () => {
    mkdirSync(cache, { recursive: true });
    assert.ok(found !== undefined);
    kernel = makeFirstRoot(found, cache);
    if (!existsSync(systemDisk)) await makeSystemDisk(systemDisk);
  });

  const plan = (projectDisk: string, filesystem: Filesystem): Omit<Plan, "cuts" | "say"> => ({
    kernel,
    systemDisk,
    projectDisk,
    filesystem,
    driver: filesystem === "btrfs" ? "btrfs" : "overlay2",
    replays,
    random: seededRandom(seed),
  });

  for (const filesystem of filesystems)
    test(`${cuts} power cuts on ${filesystem} lose nothing that was acknowledged`, { timeout }, async () => {
      const projectDisk = join(cache, "project.img");
      await makeProjectDisk(projectDisk);
      const { complaints, figures } = await liveAndDie({ ...plan(projectDisk, filesystem), cuts, say });
      for (const complaint of complaints) say(complaint);
      assert.deepEqual(complaints, [], `seed ${seed}`);
      assert.equal(figures.cuts, cuts);
      assert.ok(figures.replays > 0 && figures.acknowledged > cuts, "the clients were given time to work");
    });

  for (const [does, patch] of Object.entries(mutants))
    test(`an engine that ${does} is found out`, { timeout }, async () => {
      const projectDisk = join(cache, "mutant.img");
      await makeProjectDisk(projectDisk, { patches: [patch] });
      const [filesystem = "ext4"] = filesystems;
      const { complaints } = await liveAndDie({ ...plan(projectDisk, filesystem), cuts: 3, say });
      for (const complaint of complaints.slice(0, 12)) say(complaint);
      assert.notDeepEqual(complaints, [], `three cuts of an engine that ${does} lost nothing (seed ${seed})`);
    });
});
