import assert from "node:assert/strict";
import { mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import { validateName } from "../volume-name.ts";
import { openLocalDriver } from "./driver.ts";
import { parseOptions } from "./validate.ts";

volumeDriverSuite("local", openLocalDriver);

const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);

describe("the local driver's directories", () => {
  test("have the modes of dockerd's, whatever the umask", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
      const before = process.umask(0o077);
      try {
        await driver.create({ name: "v1", options: {} });
      } finally {
        process.umask(before);
      }
      assert.equal(await mode(join(root, "volumes")), "701");
      assert.equal(await mode(join(root, "volumes/v1")), "701");
      assert.equal(await mode(join(root, "volumes/v1/_data")), "755");
      assert.equal((await driver.describe({ name: "v1", options: {} })).mountpoint, join(root, "volumes/v1/_data"));
    }));

  test("that a crash left half-made or half-removed are swept at the next start; strange ones are no volumes", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver, reopen }) => {
      await driver.create({ name: "v1", options: {} });
      await mkdir(join(root, "volumes/.new-aa/_data"), { recursive: true });
      await mkdir(join(root, "volumes/.gone-bb/_data/d"), { recursive: true });
      await mkdir(join(root, "volumes/no-data"));
      await writeFile(join(root, "volumes/file"), "");
      await symlink("/etc", join(root, "volumes/link"));
      assert.deepEqual(await (await reopen()).list(), ["v1"]);
      assert.deepEqual((await readdir(join(root, "volumes"))).sort(), ["file", "link", "no-data", "v1"]);
    }));

  test("go with everything in them, and nothing that symlinks in them name", () =>
    withVolumeDriver(openLocalDriver, async ({ root, driver }) => {
      await driver.create({ name: "v1", options: {} });
      const data = join(root, "volumes/v1/_data");
      await mkdir(join(root, "outside"));
      await writeFile(join(root, "outside/f"), "kept");
      await symlink(join(root, "outside"), join(data, "link"));
      let deep = data;
      for (let depth = 0; depth < 40; depth++) deep = join(deep, "d".repeat(50));
      await mkdir(deep, { recursive: true });
      await driver.remove({ name: "v1", options: {} });
      assert.deepEqual(await readdir(join(root, "volumes")), []);
      assert.deepEqual(await readdir(join(root, "outside")), ["f"]);
    }));
});

describe("names and options of the local driver", () => {
  const invalid = (message: string) => ({ code: "invalid_argument", message });
  const characters = (name: string) =>
    invalid(
      `${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  const short = invalid("volume name is too short, names should be at least two alphanumeric characters");

  for (const name of ["v1", "A_b.c-d", "0".repeat(64)]) test(`${name} is a name`, () => validateName(name));
  for (const name of ["a/b", "..", ".hidden", "-x", "a b", "a\nb", "", "\u00e9\u00e9", "../../etc"])
    test(`${JSON.stringify(name)} is none`, () => assert.throws(() => validateName(name), characters(name)));
  for (const name of ["x", ".", "/", "\u{1f600}"])
    test(`${JSON.stringify(name)} is too short`, () => assert.throws(() => validateName(name), short));
  test("a name that no directory can have is refused", () =>
    assert.throws(() => validateName("t".repeat(300)), { code: "invalid_argument" }));

  const missing = (option: string) => invalid(`missing required option: "${option}"`);
  const refused: readonly (readonly [Record<string, string>, object])[] = [
    [{ bogus: "1" }, invalid('invalid option: "bogus"')],
    [{ type: "tmpfs" }, missing("device")],
    [{ device: "tmpfs" }, missing("type")],
    [{ o: "size=1m" }, missing("device")],
    [{ o: "size=1m", device: "x" }, missing("type")],
    [{ o: "size=1m", type: "x" }, missing("device")],
    [{ type: "", device: "tmpfs" }, missing("type")],
    [{ size: "much" }, invalid("invalid size: 'much'")],
    [{ size: "10m", type: "tmpfs", device: "tmpfs" }, { code: "invalid_argument" }],
    [
      { type: "cifs", device: "//1.2.3.4:1000/share" },
      invalid("port not allowed in CIFS device URL, include 'port' in 'o='"),
    ],
    [{ type: "tmpfs", device: "tmpfs", o: "a\0b" }, { code: "invalid_argument" }],
  ];
  for (const [options, error] of refused)
    test(`options ${JSON.stringify(options)} are refused`, () => assert.throws(() => parseOptions(options), error));
  for (const options of [
    {},
    { size: "0" },
    { size: "10m" },
    { type: "tmpfs", device: "tmpfs" },
    { type: "nfs", device: ":/e", o: "addr=h,rw" },
  ])
    test(`options ${JSON.stringify(options)} are fine`, () => void parseOptions(options));
});
