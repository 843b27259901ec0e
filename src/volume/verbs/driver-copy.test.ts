/** Snapshots and clones that the driver makes: when containers are held for them, what the client is told, and how they end. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { noUsers, type VolumeUsers } from "../users.ts";
import type { VolumeProgress } from "../verbs.ts";
import { type Given, given } from "./verbs.fixture.ts";

const skip = process.getuid?.() === 0 ? false : "trees have owners";

/** Containers that do something last when they are frozen. */
function usersOf(events: string[], freeze: () => unknown): VolumeUsers {
  return {
    ...noUsers,
    async hold(volume, options) {
      if (options.freeze) {
        await freeze();
        events.push("held");
      }
      const held = await noUsers.hold(volume, options);
      return { ...held, [Symbol.asyncDispose]: async () => void (options.freeze && events.push("let go")) };
    },
  };
}

/** A volume with some files. */
async function filled({ store }: Pick<Given, "store">): Promise<string> {
  const { mountpoint } = await store.create({ name: "v1" });
  for (let number = 0; number < 20; number++) writeFileSync(join(mountpoint, `f${number}`), Buffer.alloc(3000, 1));
  return mountpoint;
}

const left = (root: string): readonly string[] =>
  [join(root, "volumes"), join(root, "volumes/v1/.snapshots")]
    .flatMap((path) => readdirSync(path))
    .filter((name) => /^\.(new|gone)-/.test(name));

describe("a snapshot that the driver makes", { skip }, () => {
  test("is told of, holds containers once it has begun, and is of the moment at which they are held", () =>
    given(async ({ root, reopen }) => {
      const events: string[] = [];
      let path = "";
      const users = usersOf(events, () => writeFileSync(join(path, "f1"), "last word"));
      const { store, verbs } = await reopen(undefined, users);
      path = await filled({ store });
      const told: VolumeProgress[] = [];
      const progress = (at: VolumeProgress): void => {
        told.push(at);
        events.push(at.step);
      };
      const { report } = await verbs.createSnapshot("v1", "first", { progress });
      assert.deepEqual([report.byStore, report.consistent], [false, true]);
      assert.notEqual(report.cost, "constant");
      // Where blocks are shared they are held at once.
      const before = events.slice(0, events.indexOf("held"));
      assert.deepEqual([...new Set(before)], report.cost === "copy" ? ["copying"] : []);
      assert.deepEqual([events.filter((event) => event !== "copying"), events.at(-1)], [["held", "let go"], "let go"]);
      assert.deepEqual([told.at(-1)?.bytes, told.at(-1)?.entries], [told.at(-1)?.totalBytes, 20]);
      writeFileSync(join(path, "f1"), "later");
      events.length = told.length = 0;
      await verbs.restoreSnapshot("v1", "first", { progress });
      assert.equal(readFileSync(join(path, "f1"), "utf8"), "last word");
      await verbs.clone({ name: "v1", snapshot: "first" }, { name: "v2" }, { progress });
      assert.deepEqual([...new Set(events)], ["restoring", "copying"]);
      events.length = 0;
      const tar: Uint8Array[] = [];
      for await (const chunk of verbs.export({ name: "v1", snapshot: "first" }, { progress })) tar.push(chunk);
      assert.ok(Buffer.concat(tar).includes("last word"));
      assert.deepEqual([...new Set(events)], ["copying", "exporting"]);
      assert.deepEqual(left(root), []);
    }));

  test("holds nobody who is not to pause", () =>
    given(async ({ reopen }) => {
      const events: string[] = [];
      const { store, verbs } = await reopen(
        undefined,
        usersOf(events, () => undefined),
      );
      await filled({ store });
      const { report } = await verbs.createSnapshot("v1", "first", { pause: false });
      assert.equal(report.consistent, true, "nobody wrote");
      await verbs.clone({ name: "v1" }, { name: "v2" }, { pause: false });
      assert.deepEqual(events, []);
    }));

  test("lets containers go when it is ended, and leaves nothing; the volume is free then", () =>
    given(async ({ root, reopen }) => {
      const events: string[] = [];
      const ending = new AbortController();
      const users = usersOf(events, () => ending.abort(new Error("enough")));
      const { store, verbs } = await reopen(undefined, users);
      await filled({ store });
      await assert.rejects(verbs.createSnapshot("v1", "first", { signal: ending.signal }), /enough/);
      assert.deepEqual(events, ["held", "let go"]);
      assert.deepEqual(left(root), []);
      assert.deepEqual(await verbs.listSnapshots("v1"), []);
      await verbs.createSnapshot("v1", "first");
      for (const copy of [
        () => verbs.restoreSnapshot("v1", "first", { signal: ending.signal }),
        () => verbs.clone({ name: "v1", snapshot: "first" }, { name: "v2" }, { signal: ending.signal }),
        () => verbs.export({ name: "v1", snapshot: "first" }, { signal: ending.signal })[Symbol.asyncIterator]().next(),
      ])
        await assert.rejects(copy(), /enough/);
      assert.deepEqual(left(root), []);
      assert.deepEqual(
        (await store.list()).volumes.map(({ name }) => name),
        ["v1"],
      );
      await store.remove("v1", { force: true, snapshots: true });
    }));

  test("keeps the volume where it is while it is made, and whoever uses it before others are held need not wait", () =>
    given(async ({ reopen }) => {
      const events: string[] = [];
      const use = async (): Promise<void> => {
        await assert.rejects(store.remove("v1", { force: true, snapshots: true }), /snapshot create/);
        await store.mount("v1", "container");
        events.push("mounted");
      };
      const { store, verbs } = await reopen(undefined, usersOf(events, use));
      await filled({ store });
      await verbs.createSnapshot("v1", "first");
      assert.deepEqual(events, ["mounted", "held", "let go"]);
      await store.unmount("v1", "container");
    }));
});
