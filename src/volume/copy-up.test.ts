import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import {
  chmod,
  chown,
  link,
  lutimes,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { EventBus } from "../base/events.ts";
import type { Pool } from "../host/pool.ts";
import { AT_FDCWD, getXattr, listXattrs, setXattr, statat } from "../host/sys.ts";
import { createPool } from "../host/worker-pool.ts";
import { openDatabase } from "../metadata/open.ts";
import { openVolumeDrivers } from "../volume-driver/list.ts";
import { copyUpInto, finishCopyUpIn } from "./copy-up.ts";
import { openVolumeStore } from "./open.ts";
import { volumeSchema } from "./schema.ts";
import type { VolumeStore } from "./store.ts";

const isRoot = process.getuid?.() === 0;
const owner = "0123456789abcdef";
const skip = isRoot ? false : "needs root: owners, devices, trusted attributes";

/** An image's root with one of everything below /data. */
async function makeImage(root: string): Promise<string> {
  const data = join(root, "data");
  await mkdir(join(data, "sub/deeper"), { recursive: true });
  await mkdir(join(data, "empty"));
  await writeFile(join(data, "file"), "content");
  await writeFile(join(data, "sub/big"), Buffer.alloc(300_000, 7));
  await writeFile(join(data, "setuid"), "x");
  await link(join(data, "file"), join(data, "sub/deeper/second-name"));
  await symlink("../../etc/passwd", join(data, "link"));
  await symlink("/", join(data, "sub/root"));
  await writeFile(Buffer.concat([Buffer.from(`${data}/`), Buffer.from([0x62, 0xff, 0x0a, 0x20])]), "");
  execFileSync("mkfifo", [join(data, "fifo")]);
  execFileSync("mknod", [join(data, "null"), "c", "1", "3"]);
  setXattr(AT_FDCWD, join(data, "file"), "user.note", Buffer.from([1, 0, 2]));
  setXattr(AT_FDCWD, join(data, "sub"), "trusted.note", Buffer.from("t"));
  await chown(join(data, "setuid"), 1000, 1001);
  await chmod(join(data, "setuid"), 0o4755);
  await chown(data, 1234, 5678);
  await chmod(data, 0o2751);
  await lutimes(join(data, "link"), 1_000_000, 1_234_567.25);
  await utimes(join(data, "file"), 5, 1_500_000_000.123);
  for (const path of ["sub/deeper", "sub", "."]) await utimes(join(data, path), 5, 1_400_000_000.5);
  return data;
}

/** Everything that a copy must keep, path by path; names of one file count from the first. */
function describeTree(root: string): readonly string[] {
  const inodes = new Map<string, string>();
  const found = execFileSync("find", [root, "-mindepth", "1", "-printf", "%P\\0"], { encoding: "latin1" });
  const names = found.split("\0").sort();
  return names.map((name) => {
    const path = Buffer.from(join(root, name), "latin1");
    const stat = statat(AT_FDCWD, path);
    const first = inodes.get(`${stat.ino}`) ?? name;
    inodes.set(`${stat.ino}`, first);
    const isLink = (stat.mode & 0o170000) === 0o120000;
    const isFile = (stat.mode & 0o170000) === 0o100000;
    const attributes = listXattrs(AT_FDCWD, path).sort();
    return JSON.stringify({
      name,
      mode: stat.mode.toString(8),
      owner: [stat.uid, stat.gid],
      size: isFile ? stat.size : 0,
      time: [stat.mtimeSec, stat.mtimeNsec],
      device: [stat.rdevMajor, stat.rdevMinor],
      sameAs: first,
      target: isLink ? readlinkSync(path).toString() : "",
      attributes: attributes.map((key) => [key, getXattr(AT_FDCWD, path, key)?.toString("hex")]),
    });
  });
}

type Given = { readonly root: string; readonly image: string; readonly store: VolumeStore; readonly pool: Pool };

const given = (work: (given: Given) => Promise<void>) => async (): Promise<void> => {
  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "copy-up-"));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const image = join(root, "image");
  await mkdir(join(image, "etc"), { recursive: true });
  await makeImage(image);
  const database = stack.use(await openDatabase(join(root, "meta.db"), [volumeSchema]));
  const pool = stack.use(createPool());
  const drivers = await openVolumeDrivers({ root, pool });
  const store = await openVolumeStore({ database, drivers, pool, events: new EventBus() });
  await work({ root, image, store, pool });
};

describe("copy-up", { skip }, () => {
  test(
    "an empty volume becomes what the image has, to the last attribute, the root's among them",
    given(async ({ image, store }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      await store.copyUp("v1", { root: image, path: "/data" });
      assert.deepEqual(describeTree(mountpoint), describeTree(join(image, "data")));
      assert.deepEqual(await readdir(join(mountpoint, "..")), ["_data"]);
    }),
  );

  test(
    "a volume with data is left alone; one with only lost+found is filled",
    given(async ({ image, store }) => {
      const full = await store.create({ name: "full" });
      await writeFile(join(full.mountpoint, "mine"), "");
      await store.copyUp("full", { root: image, path: "/data" });
      assert.deepEqual(await readdir(full.mountpoint), ["mine"]);
      const fresh = await store.create({ name: "fresh" });
      await mkdir(join(fresh.mountpoint, "lost+found"));
      await mkdir(join(image, "data/lost+found"));
      await store.copyUp("fresh", { root: image, path: "/data" });
      assert.ok(existsSync(join(fresh.mountpoint, "sub/deeper/second-name")));
    }),
  );

  test(
    "twenty at once on one volume: no error, and the same result as one",
    given(async ({ image, store }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      await Promise.all(Array.from({ length: 20 }, () => store.copyUp("v1", { root: image, path: "/data" })));
      assert.deepEqual(describeTree(mountpoint), describeTree(join(image, "data")));
    }),
  );

  test(
    "a path that the image does not have is nothing, a file is an error, an empty directory gives its attributes",
    given(async ({ image, store }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      await store.copyUp("v1", { root: image, path: "/nowhere/at/all" });
      await assert.rejects(store.copyUp("v1", { root: image, path: "/data/file" }), {
        code: "conflict",
        message: "cannot mount volume over existing file, file exists /data/file",
      });
      assert.deepEqual(await readdir(mountpoint), []);
      await chown(join(image, "data/empty"), 7, 8);
      await store.copyUp("v1", { root: image, path: "/data/empty" });
      assert.deepEqual([statat(AT_FDCWD, mountpoint).uid, statat(AT_FDCWD, mountpoint).gid], [7, 8]);
    }),
  );

  test(
    "symlinks in the image are resolved inside it, never on the host",
    given(async ({ image, store, root }) => {
      await mkdir(join(root, "host"));
      await writeFile(join(root, "host/secret"), "");
      await symlink(join(root, "host"), join(image, "escape"));
      await symlink("../../../../../data/sub", join(image, "inside"));
      const { mountpoint } = await store.create({ name: "v1" });
      await store.copyUp("v1", { root: image, path: "/escape" });
      assert.deepEqual(await readdir(mountpoint), []);
      await store.copyUp("v1", { root: image, path: "/inside" });
      assert.deepEqual(describeTree(mountpoint), describeTree(join(image, "data/sub")));
    }),
  );

  test(
    "a volume without a directory of its own is filled through a staging directory inside it",
    given(async ({ image, root, pool }) => {
      const volume = join(root, "plain");
      await mkdir(join(volume, "lost+found"), { recursive: true });
      await copyUpInto(pool, { volume, beside: false, owner }, { root: image, path: "/data/sub" });
      assert.deepEqual((await readdir(volume)).sort(), ["big", "deeper", "lost+found", "root"]);
    }),
  );
});

describe("a copy-up that a crash interrupted", { skip }, () => {
  const places = (root: string) => {
    const volume = join(root, "place/_data");
    return { volume, fresh: join(root, "place/.copy-up.new"), ready: join(root, "place/.copy-up.ready") };
  };

  /** What a crash leaves after the copy and before the first move. */
  const stageWhole = async (data: string, ready: string): Promise<void> => {
    await mkdir(ready, { recursive: true });
    execFileSync("cp", ["-a", data, join(ready, "entries")]);
    execFileSync("cp", ["-a", "--attributes-only", join(data, "empty"), join(ready, "root")]);
    for (const flag of ["chown", "chmod", "touch"]) execFileSync(flag, ["--reference", data, join(ready, "root")]);
  };

  test(
    "while it was staged is forgotten",
    given(async ({ root, pool }) => {
      const { volume, fresh } = places(root);
      await mkdir(volume, { recursive: true });
      await mkdir(join(fresh, "half/made"), { recursive: true });
      await finishCopyUpIn(pool, { volume, beside: true, owner });
      assert.deepEqual([await readdir(join(root, "place")), await readdir(volume)], [["_data"], []]);
    }),
  );

  test(
    "while it moved in is finished, at whichever entry it stopped",
    given(async ({ root, image, pool }) => {
      const expected = describeTree(join(image, "data"));
      const entries = (await readdir(join(image, "data"), { encoding: "buffer" })).sort(Buffer.compare);
      const below = (path: string, name: Buffer) => Buffer.concat([Buffer.from(`${path}/`), name]);
      for (let moved = 0; moved <= entries.length; moved++) {
        const { volume, ready } = places(join(root, String(moved)));
        await mkdir(volume, { recursive: true });
        await stageWhole(join(image, "data"), ready);
        for (const name of entries.slice(0, moved))
          await rename(below(join(ready, "entries"), name), below(volume, name));
        await finishCopyUpIn(pool, { volume, beside: true, owner });
        assert.deepEqual(describeTree(volume), expected);
        assert.deepEqual(await readdir(join(volume, "..")), ["_data"]);
      }
    }),
  );

  test(
    "is finished before the next use sees the volume",
    given(async ({ root, image, store }) => {
      await mkdir(join(root, "volumes/v1/_data"), { recursive: true });
      await stageWhole(join(image, "data"), join(root, "volumes/v1/.copy-up.ready"));
      await store.create({ name: "v1" });
      const path = await store.mount("v1", "c1");
      assert.equal(await readFile(join(path, "file"), "utf8"), "content");
      await store.unmount("v1", "c1");
    }),
  );
});
