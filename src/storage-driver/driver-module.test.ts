import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import { EngineError } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import { loadDriverModule, reservedNames } from "./driver-module.ts";
import { openStorageDriver, selectStorageDriver } from "./select.ts";

const whole = `
  export const storageDriver = {
    name: "mine",
    async probe() { return undefined; },
    async open(home, options) {
      const no = () => { throw Object.assign(new Error("no such thing"), { code: "not_found" }); };
      return {
        name: "mine", home, note: "own",
        traits: { keeps: "whole", maxParents: 3, sharesBlocks: false, containerOptions: [] },
        async stage() { no(); }, async commit() { throw new Error("plain"); }, async createWritable() {},
        async mounts() { return []; }, changes() { no(); }, async remove() {}, async list() { return [this.note]; },
        async sweep() { return 0; }, async status() { return []; }, describe() { return {}; },
        async [Symbol.asyncDispose]() {},
      };
    },
  };`;

type Place = { readonly root: string; readonly write: (text: string) => Promise<string> };

let count = 0;

/** A scratch folder; each module has a name of its own, as Node loads a path once. */
async function inPlace(use: (place: Place) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "module-"));
  const write = async (text: string): Promise<string> => {
    const path = join(root, `driver-${++count}.mjs`);
    await writeFile(path, text);
    return path;
  };
  try {
    await use({ root, write });
  } finally {
    await rm(root, { recursive: true });
  }
}

const loading = async (path: string): Promise<string> => {
  const error: unknown = await loadDriverModule(path, ["taken"]).then(
    () => "it was loaded",
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof EngineError, String(error));
  assert.equal(error.code, "invalid_argument");
  return error.message;
};

test("what a module lacks is told when it is loaded, with its path", () =>
  inPlace(async ({ root, write }) => {
    const missing = join(root, "nowhere.mjs");
    assert.match(await loading(missing), new RegExp(`module ${missing} cannot be loaded: Cannot find module`));
    const cases: readonly (readonly [text: string, said: RegExp])[] = [
      ["export const = 1", /cannot be loaded: /],
      ['throw new Error("out of luck")', /cannot be loaded: out of luck$/],
      ["export const driver = {};", /exports no "storageDriver"; see docs/],
      ["export default {};", /exports no "storageDriver"/],
      ["export const storageDriver = 7;", /"storageDriver" of .* is no object/],
      ["export const storageDriver = null;", /is no object/],
      ['export const storageDriver = { name: "x", probe() {} };', /lacks open; /],
      ["export const storageDriver = {};", /lacks name, probe, open; /],
      [whole.replaceAll('"mine"', '"../mine"'), /calls its driver "..\/mine": a name is at most 48/],
      [whole.replaceAll('"mine"', '"Mine"'), /lower-case/],
      [whole.replaceAll('"mine"', `"${"m".repeat(49)}"`), /at most 48/],
      [whole.replaceAll('"mine"', '"taken"'), /"taken", which is the name of a driver of Strata/],
      [whole.replaceAll('"mine"', '"zfs"'), /"zfs", which is the name of a driver/],
      [whole.replaceAll('"mine"', '"volumes"'), /"volumes", which names something else in the data root/],
    ];
    for (const [text, said] of cases) {
      const path = await write(text);
      const message = await loading(path);
      assert.match(message, said);
      assert.ok(message.includes(path), message);
    }
  }));

test("what an opened driver lacks is told before anything is kept with it", () =>
  inPlace(async ({ root, write }) => {
    await using pool = createPool({ size: 1 });
    const cases: readonly (readonly [from: string, to: string, said: RegExp])[] = [
      ["async mounts() { return []; }, changes() { no(); },", "", /opens lacks mounts, changes; see docs/],
      ["async [Symbol.asyncDispose]() {},", "", /lacks \[Symbol.asyncDispose\]/],
      ["home, note", 'home: "/elsewhere", note', /has not the home "/],
      ["return {", 'return { ...{}, name: "x" }; return {', /lacks stage, commit/],
      ['"whole"', '"half"', /traits .* keeps is "diff" or "whole"/],
      ["maxParents: 3", 'maxParents: "3"', /maxParents is a number/],
      ["sharesBlocks: false, ", "", /sharesBlocks is true or false/],
      ["containerOptions: []", "containerOptions: [1]", /containerOptions is a list of names/],
    ];
    for (const [from, to, said] of cases) {
      assert.ok(whole.includes(from));
      const factory = await loadDriverModule(await write(whole.replace(from, to)));
      await assert.rejects(factory.open(join(root, "mine"), {}, { pool }), { code: "invalid_argument", message: said });
    }
  }));

test("a failure with one of our codes is understood, any other stays as it is", () =>
  inPlace(async ({ root, write }) => {
    await using pool = createPool({ size: 1 });
    const factory = await loadDriverModule(relative(process.cwd(), await write(whole)));
    await using driver = await factory.open(join(root, "mine"), {}, { pool });
    const understood = (error: unknown): boolean => error instanceof EngineError && error.code === "not_found";
    await assert.rejects(driver.stage({ id: "a", parents: [] }), understood);
    assert.throws(() => driver.changes({ id: "a", parents: [] }), understood);
    await assert.rejects(driver.commit({ id: "a", parents: [] }), (error) => !(error instanceof EngineError));
    assert.deepEqual(await driver.list(), ["own"]);
  }));

test("the data root names the driver's module, and a start without it says what it needs", () =>
  inPlace(async ({ root, write }) => {
    await using pool = createPool({ size: 1 });
    const path = await write(whole);
    const options = { root, options: {}, context: { pool } };
    await using driver = await openStorageDriver({ ...options, configured: path });
    assert.deepEqual([driver.name, driver.home], ["mine", join(root, "mine")]);
    assert.deepEqual(JSON.parse(await readFile(join(root, "drivers/mine.json"), "utf8")), { module: path });
    // It was opened and never used: any driver may be taken.
    assert.notEqual((await selectStorageDriver(options)).name, "mine");
    await mkdir(join(root, "mine/kept/abc"), { recursive: true });
    const needed = `the storage driver "mine" is not part of Strata, but a module of its own (${path} when it was last used): start with --storage-driver and the path of that module`;
    const message = `${root} holds data of another driver: ${needed}`;
    await assert.rejects(selectStorageDriver(options), { code: "unsupported", message });
    await assert.rejects(selectStorageDriver({ ...options, configured: "mine" }), {
      code: "invalid_argument",
      message: needed,
    });
    await mkdir(join(root, "overlay2/abc/diff"), { recursive: true });
    await assert.rejects(selectStorageDriver(options), { code: "conflict", message: /overlay2, mine;/ });
    const moved = await write(whole);
    await using again = await openStorageDriver({ ...options, configured: moved });
    assert.equal(again.name, "mine");
    assert.deepEqual(JSON.parse(await readFile(join(root, "drivers/mine.json"), "utf8")), { module: moved });
    await writeFile(join(root, "drivers/mine.json"), "{");
    await assert.rejects(selectStorageDriver(options), { code: "data_loss", message: /mine.json is damaged: write/ });
  }));

test("no driver may be called as something else in the data root", async () => {
  const text = await readFile(new URL("../../docs/on-disk-format.md", import.meta.url), "utf8");
  const block = /## Data root\n+```\n(.*?)```/s.exec(text)?.[1] ?? "";
  const folders = new Set([...block.matchAll(/^([a-z-]+)\//gm)].map((match) => match[1]));
  const { namedOnly, storageDrivers } = await import("./list.ts");
  for (const { name } of [...storageDrivers, ...namedOnly]) folders.delete(name);
  const advice = "a folder of the data root belongs into `reservedNames` of driver-module.ts";
  assert.deepEqual([...folders].toSorted(), reservedNames, advice);
});
