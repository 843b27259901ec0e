/** Marks of overlayfs that somebody put into a diff from outside, and kernels that would make such diffs themselves. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { overlayChanges, overlayChangesTar } from "../../archive/overlay-changes.ts";
import { isError } from "../../base/errors.ts";
import { mountAll, unmountAll } from "../../host/mount.ts";
import { AT_FDCWD, getXattr, setXattr } from "../../host/sys.ts";
import { createPool } from "../../host/worker-pool.ts";
import type { StorageDriver } from "../driver.ts";
import { overlay2 } from "./driver.ts";
import { mountOptions } from "./options.ts";
import { tryOverlay } from "./trial.ts";

type Bench = {
  readonly driver: StorageDriver;
  /** Where the layer's or container's changes stand. */
  readonly diff: (id: string, name: string) => string;
  readonly view: <T>(id: string, parents: readonly string[], use: (tree: string) => T) => Promise<T>;
};

const kindOf = (id: string): "writable" | "layer" => (id === "top" ? "writable" : "layer");

async function withDriver(use: (bench: Bench) => Promise<void>): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "marks-"));
  await using pool = createPool({ size: 1 });
  const target = join(scratch, "merged");
  mkdirSync(target);
  try {
    await using driver = await overlay2.open(join(scratch, "home"), {}, { pool });
    const diff = (id: string, name: string): string => join(driver.home, id, "diff", name);
    await use({
      driver,
      diff,
      view: async (id, parents, look) => {
        mountAll(await driver.mounts({ id, parents }, kindOf(id)), target);
        try {
          return look(target);
        } finally {
          unmountAll(target);
        }
      },
    });
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** A layer with two folders, and a container over it. */
async function withContainer(use: (bench: Bench) => Promise<void>): Promise<void> {
  await withDriver(async (bench) => {
    const { driver, diff } = bench;
    await driver.stage({ id: "one", parents: [] });
    await driver.commit({ id: "one", parents: [] });
    for (const name of ["folder", "other"]) {
      mkdirSync(diff("one", name));
      writeFileSync(diff("one", `${name}/below`), name);
    }
    await driver.createWritable({ id: "top", parents: ["one"] }, {});
    await use(bench);
  });
}

const refused =
  (said: RegExp) =>
  (error: unknown): boolean =>
    isError(error, "unsupported") && said.test(error.message);

test("a redirect that was planted in a container's changes leads nowhere, and is refused by name in a diff", () =>
  withContainer(async ({ diff, view }) => {
    mkdirSync(diff("top", "moved"));
    setXattr(AT_FDCWD, diff("top", "moved"), "trusted.overlay.redirect", Buffer.from("/folder"));
    await view("top", ["one"], (tree) => {
      assert.throws(() => readdirSync(join(tree, "moved")), { code: "EPERM" });
      assert.deepEqual(readdirSync(join(tree, "folder")), ["below"]);
    });
    assert.throws(
      () => overlayChanges(diff("top", ""), diff("one", "")),
      refused(/^\/moved was written .*redirect_dir/),
    );
  }));

test("a file without its own contents is refused by name, whatever its blocks say", () =>
  withContainer(async ({ diff, view }) => {
    mkdirSync(diff("top", "folder"));
    writeFileSync(diff("top", "folder/below"), Buffer.alloc(10_000));
    setXattr(AT_FDCWD, diff("top", "folder/below"), "trusted.overlay.metacopy", Buffer.alloc(0));
    await view("top", ["one"], (tree) =>
      assert.throws(() => readFileSync(join(tree, "folder/below")), { code: "EPERM" }),
    );
    const said = refused(/^\/folder\/below was written by overlayfs with metacopy/);
    assert.throws(() => overlayChanges(diff("top", ""), diff("one", "")), said);
    await assert.rejects(
      overlayChangesTar(diff("top", ""), diff("one", ""), async () => undefined),
      said,
    );
  }));

test("neither is followed in a layer", () =>
  withContainer(async ({ driver, diff, view }) => {
    await driver.stage({ id: "two", parents: ["one"] });
    await driver.commit({ id: "two", parents: ["one"] });
    mkdirSync(diff("two", "moved"));
    setXattr(AT_FDCWD, diff("two", "moved"), "trusted.overlay.redirect", Buffer.from("/folder"));
    mkdirSync(diff("two", "folder"));
    writeFileSync(diff("two", "folder/below"), Buffer.alloc(6));
    setXattr(AT_FDCWD, diff("two", "folder/below"), "trusted.overlay.metacopy", Buffer.alloc(0));
    await view("two", ["one"], (tree) => {
      assert.throws(() => readdirSync(join(tree, "moved")), { code: "EPERM" });
      assert.throws(() => readFileSync(join(tree, "folder/below")), { code: "EPERM" });
    });
  }));

test("a directory that a container calls opaque by an attribute of its own hides nothing, and keeps the attribute", () =>
  withContainer(async ({ diff, view }) => {
    await view("top", ["one"], (tree) => {
      for (const name of ["user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.opaque"])
        setXattr(AT_FDCWD, join(tree, "folder"), name, Buffer.from("y"));
      assert.deepEqual(readdirSync(join(tree, "folder")), ["below"]);
    });
    assert.equal(getXattr(AT_FDCWD, diff("top", "folder"), "trusted.overlay.overlay.opaque")?.toString(), "y");
    assert.deepEqual(overlayChanges(diff("top", ""), diff("one", "")), [{ path: "/folder", kind: 0 }]);
    const chunks: Buffer[] = [];
    await overlayChangesTar(diff("top", ""), diff("one", ""), async (chunk) => void chunks.push(Buffer.from(chunk)));
    const tar = Buffer.concat(chunks).toString("latin1");
    for (const name of ["user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.opaque"])
      assert.ok(tar.includes(`SCHILY.xattr.${name}=y`), name);
    assert.doesNotMatch(tar, /\.wh\.|overlay\.overlay/);
  }));

test("an overlay that moves or copies without contents, though it is told not to, is no place for the driver", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "marks-"));
  try {
    const plain = await tryOverlay(scratch, await mountOptions());
    assert.equal(plain.reason, undefined);
    assert.match((await tryOverlay(scratch, ["redirect_dir=on", "metacopy=off"])).reason ?? "", /by redirects/);
    assert.match((await tryOverlay(scratch, ["redirect_dir=on", "metacopy=on"])).reason ?? "", /metacopy/);
    assert.deepEqual(readdirSync(scratch), []);
  } finally {
    await rm(scratch, { recursive: true });
  }
});

test("a directory of a layer below is not renamed in place, whatever the kernel's default is", () =>
  withContainer(async ({ view, diff }) => {
    await view("top", ["one"], (tree) =>
      assert.throws(() => renameSync(join(tree, "folder"), join(tree, "moved")), { code: "EXDEV" }),
    );
    assert.deepEqual(readdirSync(diff("top", "")), []);
  }));

test("500 layers can stand under a container", () =>
  withDriver(async ({ driver, diff, view }) => {
    assert.equal(driver.traits.maxParents, 500);
    const parents: string[] = [];
    for (let index = 0; index < 500; index++) {
      const layer = { id: `l${index}`, parents: [...parents] };
      await driver.stage(layer);
      await driver.commit(layer);
      writeFileSync(diff(layer.id, `file-${index}`), `${index}`);
      writeFileSync(diff(layer.id, "shared"), `${index}`);
      parents.unshift(layer.id);
    }
    await driver.createWritable({ id: "top", parents }, {});
    await view("top", parents, (tree) => {
      for (let index = 0; index < 500; index++)
        assert.equal(readFileSync(join(tree, `file-${index}`), "utf8"), `${index}`);
      assert.equal(readFileSync(join(tree, "shared"), "utf8"), "499");
      writeFileSync(join(tree, "file-0"), "over");
    });
    assert.deepEqual(readdirSync(diff("top", "")), ["file-0"]);
  }));
