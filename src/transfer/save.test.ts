import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type TestContext, test } from "node:test";
import { openStores, type Stores } from "../../test/support/stores.ts";
import { TarReader } from "../archive/read-tar.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { isError } from "../base/errors.ts";
import { bytesOf } from "./byte-stream.ts";

const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;

function run(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 60_000 });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const tree = (names: readonly string[]): AsyncIterable<Uint8Array> =>
  bytesOf(async (write) => {
    const writer = new TarWriter(write);
    for (const name of names)
      await writer.add({ path: name, type: "file", mode: 0o755, mtime: 1e9 }, Buffer.from(name));
    await writer.finish();
  });

const importTree = (stores: Stores, reference: string, names: readonly string[] = [reference]) =>
  stores.transfer.importImage(tree(names), { reference, message: "", changes: ["LABEL k=v"], platform: undefined });

async function save(stores: Stores, file: string, ...names: readonly string[]): Promise<string> {
  const path = join(stores.root, file);
  await pipeline(stores.transfer.save(names), createWriteStream(path));
  return path;
}

async function membersOf(path: string): Promise<ReadonlyMap<string, bigint>> {
  const reader = new TarReader(createReadStream(path));
  const members = new Map<string, bigint>();
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
    assert.ok(!members.has(entry.path), `${entry.path} twice`);
    members.set(entry.path, entry.mtime);
  }
  return members;
}

async function jsonOf(path: string, name: string): Promise<unknown> {
  return JSON.parse(run("tar", "-xOf", path, name));
}

test("what was saved loads elsewhere with the same ids, and saves to the same bytes", async () => {
  await using here = await openStores();
  const ids = [await importTree(here, "app:1"), await importTree(here, "app:2"), await importTree(here, "other")];
  const path = await save(here, "saved.tar", "app", "other:latest", ids[0] ?? "");
  await using there = await openStores();
  await there.transfer.load(createReadStream(path), () => undefined);
  for (const id of ids) {
    assert.deepEqual(there.images.get(id).bytes, here.images.get(id).bytes);
    assert.deepEqual(there.images.get(id).references, here.images.get(id).references);
  }
  const again = await save(there, "again.tar", "app", "other:latest", ids[0] ?? "");
  run("cmp", path, again);
});

test("a layer that images share stands once in the archive, and every time is the epoch", async () => {
  await using stores = await openStores();
  await importTree(stores, "a:1", ["same"]);
  await importTree(stores, "b:1", ["same"]);
  const path = await save(stores, "two.tar", "a:1", "b:1");
  const members = await membersOf(path);
  assert.deepEqual([...new Set(members.values())], [0n]);
  const document = (await jsonOf(path, "manifest.json")) as readonly { Layers: readonly string[] }[];
  assert.equal(document.length, 2);
  assert.deepEqual(document[0]?.Layers, document[1]?.Layers);
});

test("names choose images as in Docker: id without tags, name with that tag, repository with all", async () => {
  await using stores = await openStores();
  const id = await importTree(stores, "app:1");
  await stores.images.tag("app:1", "app:2");
  await stores.images.tag("app:1", "r.io/x/app");
  const tags = async (...names: readonly string[]) => {
    const [entry] = (await jsonOf(await save(stores, "names.tar", ...names), "manifest.json")) as {
      RepoTags: unknown;
    }[];
    return entry?.RepoTags;
  };
  assert.equal(await tags(id), null);
  assert.equal(await tags(id.slice(7, 19)), null);
  assert.deepEqual(await tags("app:2"), ["app:2"]);
  assert.deepEqual(await tags("app"), ["app:1", "app:2"]);
  assert.deepEqual(await tags("r.io/x/app", "app:1"), ["r.io/x/app:latest", "app:1"]);
});

test("an unknown name is refused before the stream begins", async () => {
  await using stores = await openStores();
  for (const name of ["nope", "nope:1", "sha256:abc", "f".repeat(64)])
    assert.throws(
      () => stores.transfer.save([name]),
      (error) => isError(error, "not_found") && /^No such image: /.test(error.message),
      name,
    );
  assert.throws(() => stores.transfer.save(["Nope"]), /must be lowercase/);
});

test("a reader that leaves early ends the save", async () => {
  await using stores = await openStores();
  await importTree(stores, "app");
  for await (const chunk of stores.transfer.save(["app"])) {
    assert.ok(chunk.length > 0);
    break;
  }
});

test("skopeo and umoci read what we save", async (t: TestContext) => {
  if (!has("skopeo") || !has("umoci")) return t.skip("skopeo or umoci is not installed");
  await using stores = await openStores();
  const id = await importTree(stores, "acme/app:1", ["bin", "etc"]);
  const path = await save(stores, "strangers.tar", "acme/app:1");
  for (const source of [`docker-archive:${path}`, `oci-archive:${path}:1`]) {
    const inspected = JSON.parse(run("skopeo", "inspect", source));
    assert.deepEqual(inspected.Layers, stores.images.get(id).diffIds);
    assert.deepEqual(inspected.Labels, { k: "v" });
  }
  const layout = join(stores.root, "layout");
  await mkdir(layout);
  run("tar", "-C", layout, "-xf", path);
  run("umoci", "unpack", "--image", `${layout}:1`, join(stores.root, "bundle"));
  assert.equal((await stat(join(stores.root, "bundle", "rootfs", "etc"))).size, 3);
});

test("we load what skopeo and umoci write", async (t: TestContext) => {
  if (!has("skopeo") || !has("umoci")) return t.skip("skopeo or umoci is not installed");
  await using stores = await openStores();
  const id = await importTree(stores, "acme/app:1", ["bin", "etc"]);
  const path = await save(stores, "saved.tar", "acme/app:1");
  const docker = join(stores.root, "docker.tar");
  const oci = join(stores.root, "oci.tar");
  run("skopeo", "copy", "--quiet", `docker-archive:${path}`, `docker-archive:${docker}:acme/copied:2`);
  run("skopeo", "copy", "--quiet", `docker-archive:${path}`, `oci-archive:${oci}:acme/oci:3`);
  const removal = { force: true, prune: true, usedBy: () => [] };
  for (const [file, name] of [
    [docker, "acme/copied:2"],
    [oci, "acme/oci:3"],
  ] as const) {
    await stores.images.remove(stores.images.list()[0]?.id ?? id, removal);
    assert.deepEqual(stores.layers.list(), []);
    await stores.transfer.load(createReadStream(file), () => undefined);
    assert.deepEqual(stores.images.get(name).config.config?.Labels, { k: "v" });
    await rm(file);
  }
});
