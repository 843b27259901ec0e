import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createPool } from "../../host/worker-pool.ts";
import { scratchHome } from "../scratch-home.ts";
import { selectStorageDriver } from "../select.ts";
import { zfs } from "./driver.ts";

test("a home that is on no dataset is no place for it, unless an option names one, which must be a name", async () => {
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  const home = join(scratch.path, "zfs");
  assert.match((await zfs.probe(home)) ?? "", /is on \w+; the zfs driver needs it on a ZFS dataset, or one named by/);
  await assert.rejects(zfs.open(home, {}, { pool }), { code: "unsupported" });
  for (const name of ["", "-f", "a//b", "a@b", "/a"])
    await assert.rejects(zfs.open(home, { "zfs.fsname": name }, { pool }), { code: "invalid_argument" });
  await assert.rejects(zfs.open(home, { "zfs.speed": "9" }, { pool }), { message: "Unknown option zfs.speed" });
  assert.equal(existsSync(home), false);
});

test("selection hands the daemon's options to the probe", async () => {
  await using scratch = await scratchHome();
  await using pool = createPool({ size: 1 });
  const options = { "zfs.fsname": "no-such-pool/no-such-dataset" };
  const chosen = selectStorageDriver({ root: scratch.path, configured: "zfs", options, context: { pool } });
  await assert.rejects(chosen, {
    code: "unsupported",
    message: /zfs \(it was chosen\) cannot be used: ZFS does not work/,
  });
});
