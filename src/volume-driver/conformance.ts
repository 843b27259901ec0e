/**
 * The conformance suite of volume drivers: what every driver must do, whatever it is made of. It asks `traits`, never
 * the name. Every case gets a fresh root and ends by asserting that no mount, loop device or process of it is left.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { leftBehind } from "../host/left-behind.ts";
import type { Pool } from "../host/pool.ts";
import { createPool } from "../host/worker-pool.ts";
import type { VolumeDriver, VolumeSpec } from "./driver.ts";

export type VolumeDriverCase = {
  readonly root: string;
  readonly driver: VolumeDriver;
  /** Opens the driver again over the same root, as a restart of the engine does. */
  readonly reopen: () => Promise<VolumeDriver>;
  /** A volume of this name, the same at every call. */
  readonly spec: (name: string) => VolumeSpec;
  /** Another volume of this name: from now on `spec` gives it. */
  readonly another: (name: string) => VolumeSpec;
};

/** What a driver needs for its volumes. */
export type VolumeSetting = {
  /** Options of a new volume. Where somebody else keeps the data, each `place` is one of its own, and empty. */
  readonly options?: (given: { readonly root: string; readonly place: string }) => VolumeSpec["options"];
};

export type OpenVolumeDriver = (options: { readonly root: string; readonly pool: Pool }) => Promise<VolumeDriver>;

/** Runs `work` over a fresh root. */
export async function withVolumeDriver(
  open: OpenVolumeDriver,
  work: (given: VolumeDriverCase) => Promise<void>,
  { options = () => ({}) }: VolumeSetting = {},
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "volume-driver-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const pool = stack.use(createPool());
  const reopen = (): Promise<VolumeDriver> => open({ root, pool });
  const specs = new Map<string, VolumeSpec>();
  const another = (name: string): VolumeSpec => {
    const place = `${name}-${randomBytes(6).toString("hex")}`;
    const spec = { name, options: options({ root, place }) };
    specs.set(name, spec);
    return spec;
  };
  const spec = (name: string): VolumeSpec => specs.get(name) ?? another(name);
  await work({ root, driver: await reopen(), reopen, spec, another });
  // Some stay mounted for as long as they exist.
  const last = await reopen();
  await last.settle?.();
  for (const name of await last.list()) await last.remove({ name, options: {} });
  assert.deepEqual(await leftBehind(root), [], "a mount, loop device or process is left");
  assert.deepEqual(await processesFor(root), [], "a process is left");
}

/** Processes whose words or environment name the folder. */
async function processesFor(root: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid);
  const texts = pids.map(async (pid) => {
    const [words, environment] = await Promise.all(
      ["cmdline", "environ"].map((file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "")),
    );
    return `${words} ${environment}`.includes(root) ? [`${pid}: ${words?.replaceAll("\0", " ")}`] : [];
  });
  return (await Promise.all(texts)).flat();
}

const notFound = { code: "not_found" };

/** Registers the suite for one driver. */
export function volumeDriverSuite(title: string, open: OpenVolumeDriver, setting: VolumeSetting = {}): void {
  const given = (work: (given: VolumeDriverCase) => Promise<void>) => () => withVolumeDriver(open, work, setting);

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
  });
}
