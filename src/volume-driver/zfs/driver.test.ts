import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runProgram } from "../../host/program.ts";
import { run } from "../../host/zfs-command.ts";
import { cannotMakePool, type ZfsHome, zfsHome } from "../../storage-driver/zfs/zfs-pool.fixture.ts";
import { volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import { openZfsDriver } from "./driver.ts";
import { parseOptions } from "./options.ts";

describe("zfs volumes", { skip: cannotMakePool() }, () => {
  let home: ZfsHome | undefined;
  const dataset = (): string => home?.dataset ?? "";
  const all = async (): Promise<string[]> =>
    (await run("zfs", "list", "-H", "-t", "filesystem,snapshot", "-o", "name", "-r", dataset())).trim().split("\n");
  before(async () => {
    home = await zfsHome();
  });
  after(() => home?.[Symbol.asyncDispose]());

  volumeDriverSuite("zfs", openZfsDriver, { options: () => ({ dataset: dataset() }) });

  test("after all that, no dataset and no snapshot is left", async () => {
    assert.deepEqual(await all(), [dataset()]);
  });

  test("the data root's own dataset holds volumes where none is named", () =>
    withVolumeDriver(
      openZfsDriver,
      async ({ driver }) => {
        await driver.create({ name: "v1", options: { size: "20m" } });
        const path = await driver.mount({ name: "v1", options: {} }, "a");
        assert.equal((await stat(path)).mode & 0o777, 0o755);
        assert.deepEqual(await all(), [dataset(), `${dataset()}/v1`]);
        assert.equal(
          (await run("zfs", "get", "-Hp", "-o", "value", "refquota", `${dataset()}/v1`)).trim(),
          `${20 << 20}`,
        );
        await driver.unmount({ name: "v1", options: {} }, "a");
      },
      {
        async makeRoot() {
          const path = await mkdtemp(join(home?.path ?? "", "root-"));
          return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
        },
      },
    ));

  test("a dataset of somebody else with the name is not touched, and one that a crash left half-made is gone", () =>
    withVolumeDriver(openZfsDriver, async ({ root, driver, reopen }) => {
      const spec = { name: "v1", options: { dataset: dataset() } };
      await run("zfs", "create", "-o", "mountpoint=none", `${dataset()}/v1`);
      await driver.create(spec);
      const folder = join(root, "volume-drivers/zfs/v1");
      const record = JSON.parse(await readFile(join(folder, "datasets.json"), "utf8"));
      assert.match(record.head, /\/v1-[0-9a-f]{8}$/);
      await run("zfs", "create", "-o", `strata:volume=${record.id}`, "-o", "mountpoint=none", `${dataset()}/half`);
      // One in the making, and one that the record names but that is not the volume's.
      await writeFile(join(folder, "datasets.json"), JSON.stringify({ ...record, making: `${dataset()}/half` }));
      await reopen();
      assert.deepEqual(await all(), [dataset(), `${dataset()}/v1`, record.head].toSorted());
      await writeFile(join(folder, "datasets.json"), JSON.stringify({ ...record, making: `${dataset()}/v1` }));
      const last = await reopen();
      await last.remove(spec);
      assert.deepEqual(await all(), [dataset(), `${dataset()}/v1`]);
      await run("zfs", "destroy", `${dataset()}/v1`);
      assert.deepEqual(await readdir(join(root, "volume-drivers/zfs")), []);
    }));

  test("a crash in the middle of a clone or a removal leaves no hidden snapshot, and what clones share stays", () =>
    withVolumeDriver(openZfsDriver, async ({ root, driver, reopen }) => {
      const options = { dataset: dataset() };
      const [spec, clone] = [
        { name: "v1", options },
        { name: "v2", options },
      ];
      const [head, other] = [`${dataset()}/v1`, `${dataset()}/v2`];
      await driver.create(spec);
      await driver.snapshots?.clone({ spec }, clone);
      const shared = (await all()).filter((name) => name.includes("@clone:"));
      assert.equal(shared.length, 1);
      // Half a clone: its moment is there, and it is not. Half a removal: the snapshot has its hidden name, and is kept.
      const record = join(root, "volume-drivers/zfs/v1/datasets.json");
      await writeFile(record, JSON.stringify({ ...JSON.parse(await readFile(record, "utf8")), changing: true }));
      for (const name of ["clone:123", "shared:456"]) await run("zfs", "snapshot", `${head}@${name}`);
      const again = await reopen();
      assert.deepEqual(await all(), [dataset(), head, ...shared, other].toSorted());
      assert.equal(JSON.parse(await readFile(record, "utf8")).changing, undefined);
      await again.remove(clone);
      assert.deepEqual(await all(), [dataset(), head]);
      await again.remove(spec);
    }));

  test("volumes that are mounted at once answer, every one", () =>
    withVolumeDriver(openZfsDriver, async ({ driver }) => {
      const specs = Array.from({ length: 12 }, (_, index) => ({ name: `v${index}`, options: { dataset: dataset() } }));
      await Promise.all(specs.map((spec) => driver.create(spec)));
      for (let round = 0; round < 6; round++) {
        const paths = await Promise.all(specs.map((spec) => driver.mount(spec, "a")));
        for (const path of paths) {
          const { code } = await runProgram("stat", [join(path, ".")], { deadline: 20_000 });
          assert.equal(code, 0, path);
        }
        await Promise.all(specs.map((spec) => driver.unmount(spec, "a")));
      }
      await Promise.all(specs.map((spec) => driver.remove(spec)));
      assert.deepEqual(await all(), [dataset()]);
    }));

  test("size grows while the volume is used", () =>
    withVolumeDriver(openZfsDriver, async ({ driver }) => {
      const of = (size: string) => ({ name: "v1", options: { dataset: dataset(), size } });
      await driver.create(of("8m"));
      const path = await driver.mount(of("8m"), "a");
      await assert.rejects(writeFile(join(path, "f"), Buffer.alloc(16 << 20)));
      await driver.update?.(of("8m"), of("32m").options);
      await writeFile(join(path, "f"), Buffer.alloc(16 << 20));
      await driver.unmount(of("32m"), "a");
    }));

  test("a parent that is not there is told by the option's name", () =>
    withVolumeDriver(openZfsDriver, async ({ root, driver }) => {
      const spec = { name: "v1", options: { dataset: `${dataset()}/missing` } };
      await assert.rejects(driver.create(spec), { code: "invalid_argument", message: /option dataset/ });
      await assert.rejects(driver.create({ name: "v1", options: {} }), {
        code: "unsupported",
        message: /option dataset/,
      });
      assert.deepEqual(await readdir(join(root, "volume-drivers/zfs")), []);
    }));
});

describe("options of zfs", () => {
  for (const options of [{ dataset: "-f" }, { dataset: "a@b" }, { dataset: "" }, { size: "x" }, { quota: "1g" }])
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(() => parseOptions(options as Record<string, string>), { code: "invalid_argument" }));
});
