/**
 * The conformance suite of volume drivers: what every driver must do, whatever it is made of. It asks `traits` and which
 * optional members there are, never the name. Every case gets a fresh root and ends by asserting that no mount and no
 * loop device below it, and no process for it, is left.
 */
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  type OpenVolumeDriver,
  type VolumeCase,
  type VolumeDriverCase,
  type VolumeSetting,
  withVolumeDriver,
} from "./conformance-bench.ts";
import { renameCases, sizeCases, updateCases } from "./conformance-change-cases.ts";
import { copyCases } from "./conformance-copy-cases.ts";
import { snapshotCases } from "./conformance-snapshot-cases.ts";

export { type VolumeDriverCase, type VolumeSetting, withVolumeDriver } from "./conformance-bench.ts";

const notFound = { code: "not_found" };

/** Registers the suite for one driver. */
export function volumeDriverSuite(title: string, open: OpenVolumeDriver, setting: VolumeSetting = {}): void {
  const given = (work: (given: VolumeDriverCase) => Promise<void>) => () => withVolumeDriver(open, work, setting);
  /** Cases of what not every driver has; a driver without it passes over them. */
  const optional = (cases: readonly VolumeCase[], has: (given: VolumeDriverCase) => boolean): void => {
    for (const [name, work] of cases)
      test(
        name,
        given(async (bench) => {
          if (has(bench))
            await work(bench, (volume, options) => ({
              name: volume,
              options: { ...bench.spec(volume).options, ...options },
            }));
        }),
      );
  };

  describe(`volume driver ${title}`, () => {
    test(
      "what is created is listed, described, mounted, and gone after remove",
      given(async ({ driver, spec }) => {
        await driver.create(spec("one"));
        await driver.create(spec("two"));
        assert.deepEqual([...(await driver.list())].sort(), ["one", "two"]);
        const path = await driver.mount(spec("one"), "use");
        assert.ok((await stat(path)).isDirectory());
        await driver.unmount(spec("one"), "use");
        await driver.remove(spec("one"));
        assert.deepEqual(await driver.list(), ["two"]);
        await assert.rejects(driver.describe(spec("one")), notFound);
        await assert.rejects(driver.mount(spec("one"), "use"), notFound);
      }),
    );

    test(
      "data outlives uses and restarts",
      given(async ({ driver, reopen, spec }) => {
        await driver.create(spec("one"));
        await writeFile(join(await driver.mount(spec("one"), "a"), "f"), "kept");
        await driver.unmount(spec("one"), "a");
        const again = await reopen();
        assert.equal(await readFile(join(await again.mount(spec("one"), "b"), "f"), "utf8"), "kept");
        await again.unmount(spec("one"), "b");
      }),
    );

    test(
      "two uses see the same data, and two volumes do not",
      given(async ({ driver, spec }) => {
        await Promise.all([driver.create(spec("one")), driver.create(spec("two"))]);
        const [first, second, other] = [
          await driver.mount(spec("one"), "a"),
          await driver.mount(spec("one"), "b"),
          await driver.mount(spec("two"), "a"),
        ];
        await writeFile(join(first, "f"), "x");
        assert.equal(await readFile(join(second, "f"), "utf8"), "x");
        await assert.rejects(stat(join(other, "f")), { code: "ENOENT" });
        for (const use of ["a", "b"]) await driver.unmount(spec("one"), use);
        await driver.unmount(spec("two"), "a");
      }),
    );

    test(
      "create is idempotent and touches no data, also when many ask at once",
      given(async ({ driver, spec }) => {
        await Promise.all(Array.from({ length: 20 }, () => driver.create(spec("one"))));
        await writeFile(join(await driver.mount(spec("one"), "a"), "f"), "kept");
        await driver.create(spec("one"));
        assert.equal(await readFile(join(await driver.mount(spec("one"), "a"), "f"), "utf8"), "kept");
        await driver.unmount(spec("one"), "a");
      }),
    );

    test(
      "remove is refused while a use is left; the same use twice is one; an unknown one is nothing",
      given(async ({ driver, spec }) => {
        await driver.create(spec("one"));
        await driver.mount(spec("one"), "a");
        await driver.mount(spec("one"), "a");
        await driver.mount(spec("one"), "b");
        await driver.unmount(spec("one"), "a");
        await driver.unmount(spec("one"), "never");
        await assert.rejects(driver.remove(spec("one")), { code: "conflict" });
        await driver.unmount(spec("one"), "b");
        await driver.unmount(spec("one"), "b");
        await driver.remove(spec("one"));
      }),
    );

    test(
      "to remove what is not there is nothing, and a removed name is free for an empty volume",
      given(async ({ driver, spec, another }) => {
        await driver.remove(spec("one"));
        await driver.create(spec("one"));
        await writeFile(join(await driver.mount(spec("one"), "a"), "f"), "old");
        await driver.unmount(spec("one"), "a");
        await driver.remove(spec("one"));
        if (driver.traits.keepsData === true) {
          await driver.create(spec("one"));
          assert.equal(await readFile(join(await driver.mount(spec("one"), "a"), "f"), "utf8"), "old");
          await driver.unmount(spec("one"), "a");
          await driver.remove(spec("one"));
          another("one");
        }
        await driver.create(spec("one"));
        await assert.rejects(stat(join(await driver.mount(spec("one"), "a"), "f")), { code: "ENOENT" });
        await driver.unmount(spec("one"), "a");
      }),
    );

    test(
      "usage follows what is written, or is unknown",
      given(async ({ driver, spec }) => {
        await driver.create(spec("one"));
        await writeFile(join(await driver.mount(spec("one"), "a"), "f"), Buffer.alloc(100_000, 1));
        const usage = await driver.usage(spec("one"));
        assert.ok(usage === undefined || (usage >= 100_000 && usage < 300_000), String(usage));
        await driver.unmount(spec("one"), "a");
      }),
    );

    test(
      "options that nobody knows are refused before anything is made",
      given(async ({ driver, spec }) => {
        const bad = { name: "one", options: { ...spec("one").options, "no-such-option": "1" } };
        // Who keeps the volumes knows the options.
        const code = driver.traits.foreign === true ? "internal" : "invalid_argument";
        if (driver.traits.foreign !== true) assert.throws(() => driver.validate(bad), { code });
        await assert.rejects(driver.create(bad), { code });
        assert.deepEqual(await driver.list(), []);
      }),
    );

    optional(snapshotCases, ({ driver }) => driver.snapshots !== undefined);
    optional(copyCases, ({ driver }) => driver.snapshots !== undefined);
    optional(renameCases, ({ driver }) => driver.rename !== undefined);
    optional(updateCases, ({ driver }) => driver.update !== undefined);
    optional(sizeCases, ({ driver }) => driver.traits.sized === true);
  });
}
