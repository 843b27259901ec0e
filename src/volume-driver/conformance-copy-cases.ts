/**
 * Cases of the conformance suite about snapshots and clones that have to be copied: they are told of, can be ended, and let users
 * stand still for the end of them only. What costs nothing does none of this, and passes over them.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as rest } from "node:timers/promises";
import type { CopyProgress } from "../archive/copy-progress.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { fillHard, inVolume, picture, type VolumeCase, type VolumeDriverCase } from "./conformance-bench.ts";
import type { CopyWork, VolumeDriver, VolumeSnapshots, VolumeSpec } from "./driver.ts";

const conflict = { code: "conflict" };

function kept({ snapshots }: VolumeDriver): VolumeSnapshots {
  assert.ok(snapshots !== undefined);
  return snapshots;
}

const names = async (driver: VolumeDriver, spec: VolumeSpec): Promise<string[]> =>
  (await kept(driver).list(spec)).map(({ name }) => name);

const plain = (path: string): readonly string[] => pictureOf(path).filter((line) => !line.startsWith("/lost+found"));

/** A volume with a tree that is hard to copy and a snapshot of it; undefined where copies cost nothing. */
async function copied(driver: VolumeDriver, spec: VolumeSpec): Promise<"reflink" | "copy" | undefined> {
  await driver.create(spec);
  const cost = await kept(driver).cost(spec);
  if (cost === "constant") return undefined;
  await inVolume(driver, spec, async (path) => {
    await fillHard(path);
    for (let number = 0; number < 40; number++) await writeFile(join(path, `f${number}`), Buffer.alloc(5000, number));
  });
  await kept(driver).create(spec, "first");
  return cost;
}

/** Never less, of what there is, and at the end all of it. */
function checkProgress(told: readonly CopyProgress[], what: string): void {
  assert.ok(told.length > 1, what);
  for (const [index, at] of told.entries()) {
    const before = told[index - 1];
    assert.ok(at.bytes >= (before?.bytes ?? 0) && at.entries >= (before?.entries ?? 0), what);
    assert.ok(at.bytes <= at.totalBytes && at.entries <= at.totalEntries, what);
  }
  const last = told.at(-1);
  assert.deepEqual([last?.bytes, last?.entries], [last?.totalBytes, last?.totalEntries], what);
  assert.ok((last?.totalBytes ?? 0) >= 200_000 && (last?.totalEntries ?? 0) >= 45, what);
}

/** Every name below the data root; a mount would hide some. */
const everything = ({ root }: Pick<VolumeDriverCase, "root">): readonly string[] =>
  (readdirSync(root, { recursive: true }) as string[]).toSorted();

export const copyCases: readonly VolumeCase[] = [
  [
    "a copy tells how far it is: never less than before, and at the end all of it",
    async ({ driver }, spec) => {
      const one = spec("one");
      if ((await copied(driver, one)) === undefined) return;
      const told: CopyProgress[] = [];
      const work = { progress: (at: CopyProgress) => void told.push(at) };
      for (const [what, copy] of [
        ["create", () => kept(driver).create(one, "second", { ...work, still: async () => undefined })],
        ["create without standing still", () => kept(driver).create(one, "third", work)],
        ["restore", () => kept(driver).restore(one, "second", work)],
        ["clone of a snapshot", () => kept(driver).clone({ spec: one, snapshot: "second" }, spec("two"), work)],
        ["clone", () => kept(driver).clone({ spec: one }, spec("three"), work)],
      ] as const) {
        told.length = 0;
        await copy();
        checkProgress(told, what);
      }
      const tree = await picture(driver, one);
      for (const name of ["two", "three"]) assert.deepEqual(await picture(driver, spec(name)), tree);
      assert.deepEqual(await names(driver, one), ["first", "second", "third"]);
    },
  ],
  [
    "a snapshot of a volume that is written to is of the moment when its users stand still, and what can be is copied before",
    async ({ driver }, spec) => {
      // A limited one may be a filesystem of its own.
      const one = spec("one", driver.traits.sized === true ? { size: "64m" } : {});
      const cost = await copied(driver, one);
      if (cost === undefined) return;
      const path = await driver.mount(one, "container");
      await using writer = new Writer(path);
      let told: CopyProgress | undefined;
      let stills = 0;
      let moment: readonly string[] = [];
      await kept(driver).create(one, "moment", {
        progress: (at) => {
          told = at;
        },
        still: async () => {
          stills++;
          // What the writer makes and removes meanwhile is counted or not.
          const passed = (told?.entries ?? 0) > (told?.totalEntries ?? 0) / 2;
          if (cost === "copy") assert.ok(passed, "what could be was copied before");
          // The writer is seen to be free until now.
          await writer.steps(3);
          await writer[Symbol.asyncDispose]();
          writeFileSync(join(path, "f1"), "at the last moment");
          moment = plain(path);
        },
      });
      assert.equal(stills, 1);
      writeFileSync(join(path, "f2"), "later");
      rmSync(join(path, "folder"), { recursive: true });
      await driver.unmount(one, "container");
      await kept(driver).clone({ spec: one, snapshot: "moment" }, spec("two"));
      assert.deepEqual(await picture(driver, spec("two")), moment);
      await kept(driver).restore(one, "moment");
      assert.deepEqual(await picture(driver, one), moment);
    },
  ],
  [
    "without anybody who lets users stand still it is told whether somebody wrote",
    async ({ driver }, spec) => {
      const one = spec("one");
      if ((await copied(driver, one)) === undefined) return;
      assert.deepEqual(await kept(driver).create(one, "quiet"), { consistent: true });
      const path = await driver.mount(one, "container");
      await using writer = new Writer(path);
      await writer.steps(1);
      let consistent = true;
      for (let round = 0; consistent && round < 20; round++)
        ({ consistent } = await kept(driver).create(one, `loud${round}`));
      assert.ok(!consistent);
      await writer[Symbol.asyncDispose]();
      await driver.unmount(one, "container");
    },
  ],
  [
    "a copy that is ended, at its beginning, in its middle or at its last moment, leaves nothing, and the next one is whole",
    async (given, spec) => {
      const { driver } = given;
      const one = spec("one");
      if ((await copied(driver, one)) === undefined) return;
      const tree = await picture(driver, one);
      const before = everything(given);
      const copies: readonly (readonly [string, (work: CopyWork) => Promise<unknown>])[] = [
        ["create", (work) => kept(driver).create(one, "second", work)],
        ["restore", (work) => kept(driver).restore(one, "first", work)],
        ["clone of a snapshot", (work) => kept(driver).clone({ spec: one, snapshot: "first" }, spec("two"), work)],
        ["clone", (work) => kept(driver).clone({ spec: one }, spec("two"), work)],
      ];
      for (const [what, copy] of copies)
        for (const moment of ["before", "begun", "passed", "still"]) {
          if (moment === "still" && !["create", "clone"].includes(what)) continue;
          const ending = new AbortController();
          const end = (): void => ending.abort(new Error("enough"));
          let toldAfter = 0;
          const progress = ({ entries }: CopyProgress): void => {
            if (ending.signal.aborted) toldAfter++;
            else if (moment === "begun" || (moment === "passed" && entries > 0)) end();
          };
          if (moment === "before") end();
          const still = async (): Promise<void> => void (moment === "still" && end());
          await assert.rejects(copy({ signal: ending.signal, progress, still }), /enough/, `${what}, ${moment}`);
          assert.equal(toldAfter, 0, `${what}, ${moment}: it went on`);
          assert.deepEqual(everything(given), before, `${what}, ${moment}`);
        }
      assert.deepEqual(await names(driver, one), ["first"]);
      assert.deepEqual(await driver.list(), ["one"]);
      assert.deepEqual(await picture(driver, one), tree);
      for (const [, copy] of copies.slice(0, 3)) await copy({});
      for (const name of ["one", "two"]) assert.deepEqual(await picture(driver, spec(name)), tree);
      assert.deepEqual(await names(driver, one), ["first", "second"]);
    },
  ],
  [
    "while it is copied a volume stays where it is, users come and go, and of two snapshots of one name there is one",
    async ({ driver }, spec) => {
      const one = spec("one", driver.traits.sized === true ? { size: "64m" } : {});
      if ((await copied(driver, one)) === undefined) return;
      const tree = await picture(driver, one);
      await driver.mount(one, "container");
      await kept(driver).create(one, "second", {
        still: async () => {
          await driver.mount(one, "another");
          await driver.unmount(one, "container");
          await driver.unmount(one, "another");
          await assert.rejects(driver.remove(one), conflict);
          if (driver.rename !== undefined) await assert.rejects(driver.rename(one, "other"), conflict);
          await assert.rejects(kept(driver).restore(one, "first"), conflict);
          await assert.rejects(kept(driver).remove(one, "first"), conflict);
        },
      });
      const twice = await Promise.allSettled([kept(driver).create(one, "same"), kept(driver).create(one, "same")]);
      assert.deepEqual(twice.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
      assert.deepEqual(await names(driver, one), ["first", "second", "same"]);
      for (const snapshot of ["same", "second"]) {
        await kept(driver).restore(one, snapshot);
        assert.deepEqual(await picture(driver, one), tree);
      }
      await driver.remove(one);
    },
  ],
];

/** Changes a tree without a rest: new files, others renamed over them, directories that come and go. */
class Writer implements AsyncDisposable {
  #steps = 0;
  #ended = false;
  readonly #work: Promise<void>;

  constructor(path: string) {
    this.#work = this.#write(path);
  }

  async #write(path: string): Promise<void> {
    for (let number = 0; !this.#ended; number++) {
      const directory = join(path, `w${number % 7}`);
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory);
      writeFileSync(join(directory, "new"), `${number}`);
      renameSync(join(directory, "new"), join(path, `f${number % 40}`));
      this.#steps++;
      await rest();
    }
  }

  /** Resolves when so many more were done. */
  async steps(more: number): Promise<void> {
    const wanted = this.#steps + more;
    while (this.#steps < wanted) await rest();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#work;
  }
}
