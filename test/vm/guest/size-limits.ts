/**
 * Run in the guest, whose kernel has project quotas: `node size-limits.js <ext4|xfs> <device> [all]`. The device is
 * formatted and mounted with them; then overlay2's limits must be kept by them: the size cases of the conformance suite
 * (with `all` every case, each writable limited), what `df` shows, and that a removed writable leaves neither a limit nor
 * usage. Prints a line for each, and fails with the first that does not hold. ext4 needs the module quota_v2.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findLimiter } from "../../../src/host/limiter.ts";
import { projectOf, projectUsage } from "../../../src/host/project-quota.ts";
import { createPool } from "../../../src/host/worker-pool.ts";
import { makeBench } from "../../../src/storage-driver/conformance-bench.ts";
import { lifeCases } from "../../../src/storage-driver/conformance-life-cases.ts";
import { sizeCases } from "../../../src/storage-driver/conformance-size-cases.ts";
import { treeCases } from "../../../src/storage-driver/conformance-tree-cases.ts";
import { overlay2 } from "../../../src/storage-driver/overlay2/driver.ts";
import { withVolumeDriver } from "../../../src/volume-driver/conformance-bench.ts";
import { sizeCases as volumeCases } from "../../../src/volume-driver/conformance-change-cases.ts";
import { openLocalDriver } from "../../../src/volume-driver/local/driver.ts";

const [filesystem = "", device = "", extent = ""] = process.argv.slice(2);
const root = "/data/quota";
const makers: Readonly<Record<string, readonly string[]>> = {
  ext4: ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"],
  xfs: ["mkfs.xfs", "-q", "-f"],
};
const [program = "", ...options] = makers[filesystem] ?? [];
const mebibyte = 1 << 20;

execFileSync(program, [...options, device], { stdio: "inherit" });
mkdirSync(root, { recursive: true });
execFileSync("mount", ["-t", filesystem, "-o", "prjquota", device, root], { stdio: "inherit" });
try {
  await using pool = createPool({ size: 1 });
  const home = join(root, "home");
  mkdirSync(home);
  assert.deepEqual(await findLimiter(home, []), { kind: "project" });
  assert.deepEqual(readdirSync(home), []);
  console.log(`${filesystem}: project quotas are found to work`);
  // ext4 lets root write past a quota: there volumes are images.
  if (filesystem === "xfs") await limitVolumes(root);
  for (const standard of extent === "all" ? [undefined, "128m"] : [undefined]) {
    const daemon = standard === undefined ? {} : { "overlay2.size": standard };
    const cases = standard === undefined ? sizeCases : [...treeCases, ...lifeCases, ...sizeCases];
    for (const [index, [title, run]] of cases.entries()) {
      const own = join(root, `case-${index}`);
      const driver = await overlay2.open(own, daemon, { pool });
      const scratch = join(root, `views-${index}`);
      mkdirSync(scratch);
      await run(makeBench({ driver, factory: overlay2, home: own, pool }, scratch));
      for (const id of await driver.list()) await driver.remove(id);
      await driver.sweep();
      for (const folder of [own, scratch]) rmSync(folder, { recursive: true });
      console.log(`${filesystem}${standard === undefined ? "" : `, each of ${standard}`}: ${title}`);
    }
  }
  const driver = await overlay2.open(home, {}, { pool });
  const bench = makeBench({ driver, factory: overlay2, home, pool }, root);
  const layer = { id: "one", parents: [] };
  await bench.layer(layer);
  const top = { id: "top", parents: ["one"] };
  await driver.createWritable(top, { size: "32m" });
  const diff = join(home, "top/diff");
  const project = projectOf(diff);
  assert.equal(projectOf(join(home, "top/work")), project);
  assert.deepEqual(projectUsage(home, project).limit, 32 * mebibyte);
  await bench.view(top, "writable", (tree) => {
    const { blocks, bsize } = statfsSync(tree);
    assert.equal(blocks * bsize, 32 * mebibyte);
    writeFileSync(join(tree, "file"), Buffer.alloc(mebibyte, "x"), { flush: true });
  });
  assert.equal(projectOf(diff), project);
  assert.ok(projectUsage(home, project).bytes >= mebibyte);
  await driver.remove("top");
  assert.equal(projectUsage(home, project).limit, 0);
  await driver.sweep();
  // xfs frees the inodes of deleted files a while later.
  for (let tries = 0; tries < 300 && projectUsage(home, project).inodes > 0; tries++) {
    execFileSync("sync");
    await sleep(100);
  }
  assert.deepEqual(projectUsage(home, project), { limit: 0, bytes: 0, inodes: 0 });
  console.log(`${filesystem}: df shows the limit, a removed writable leaves no limit and no usage`);
} finally {
  execFileSync("umount", ["-l", root]);
}
console.log(`${filesystem}: all of it holds`);

/** Local volumes are limited by the project of their directory, and leave no limit behind. */
async function limitVolumes(place: string): Promise<void> {
  let number = 0;
  const makeRoot = async () => {
    const path = join(place, `volumes-${number++}`);
    mkdirSync(path);
    return { path, [Symbol.asyncDispose]: async () => rmSync(path, { recursive: true }) };
  };
  for (const [title, run] of volumeCases) {
    await withVolumeDriver(openLocalDriver, (given) => run(given, (name, more = {}) => ({ name, options: more })), {
      makeRoot,
    });
    console.log(`${filesystem}: volumes: ${title}`);
  }
  await withVolumeDriver(
    openLocalDriver,
    async ({ driver }) => {
      const spec = { name: "v1", options: { size: "32m" } };
      await driver.create(spec);
      const data = await driver.mount(spec, "a");
      const project = projectOf(data);
      assert.equal(projectUsage(place, project).limit, 32 * mebibyte);
      const { blocks, bsize } = statfsSync(data);
      assert.equal(blocks * bsize, 32 * mebibyte);
      await driver.update?.(spec, { size: "64m" });
      assert.equal(projectUsage(place, project).limit, 64 * mebibyte);
      await driver.unmount(spec, "a");
      await driver.remove(spec);
      assert.equal(projectUsage(place, project).limit, 0);
    },
    { makeRoot },
  );
  console.log(`${filesystem}: volumes: the project, what df shows, a larger size in use, and no limit left`);
}
