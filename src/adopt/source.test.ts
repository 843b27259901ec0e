import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { scratch } from "../archive/tree.fixture.ts";
import { openSource } from "./source.ts";

const id = "c".repeat(64);

/** A data root with these files. */
function rootWith(files: Readonly<Record<string, string>>): Disposable & { readonly path: string } {
  const folder = scratch();
  const path = folder.sub("docker");
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), content);
  }
  return { path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

const used = (driver: string): string => `image/${driver}/layerdb/sha256/${"a".repeat(64)}/diff`;
const container = (state: object): Readonly<Record<string, string>> => ({
  [used("overlay2")]: "",
  [`containers/${id}/config.v2.json`]: JSON.stringify({ ID: id, Name: "/db", Created: "", Config: {}, State: state }),
  [`containers/${id}/hostconfig.json`]: "{}",
});

const refused: readonly (readonly [string, Readonly<Record<string, string>>, string, RegExp])[] = [
  ["a container that runs", container({ Running: true }), "conflict", /these containers of .* run: db: stop them/],
  ["one that is paused", container({ Paused: true, Running: true }), "conflict", /run: db/],
  ["one that is being restarted", container({ Restarting: true }), "conflict", /run: db/],
  ["a driver that nobody reads", { [used("devicemapper")]: "" }, "unsupported", /"devicemapper", which is not read/],
  [
    "several drivers",
    { [used("vfs")]: "", [used("overlay2")]: "" },
    "conflict",
    /overlay2, vfs: choose one with --from-driver/,
  ],
  ["no image store", { "containers/x": "" }, "unsupported", /containerd image store/],
  [
    "shifted owners below",
    { "165536.165536/image/x": "" },
    "unsupported",
    /165536\.165536 was written .* userns-remap/,
  ],
];

for (const [what, files, code, message] of refused)
  test(`${what} is a refusal that says why`, async () => {
    using root = rootWith(files);
    await assert.rejects(openSource(root.path, undefined), { code, message });
  });

test("a root that is not there, and a file, are no data root", async () => {
  using root = rootWith({ file: "" });
  for (const path of ["nothing", "file"])
    await assert.rejects(openSource(join(root.path, path), undefined), {
      code: "not_found",
      message: /is no directory/,
    });
});

test("of several drivers the one that was asked for is read, and no other", async () => {
  using root = rootWith({ [used("vfs")]: "", [used("overlay2")]: "" });
  await using source = await openSource(root.path, "vfs");
  assert.equal(source.graph.name, "vfs");
  await assert.rejects(openSource(root.path, "btrfs"), { code: "not_found" });
});

test("a driver that dockerd only opened does not count beside one with layers; links are resolved", async () => {
  using root = rootWith({
    "image/btrfs/repositories.json": "{}",
    [used("overlay2")]: "",
    ...container({ Running: false }),
  });
  symlinkSync(root.path, `${root.path}.link`);
  await using source = await openSource(`${root.path}.link`, undefined);
  assert.deepEqual([source.graph.name, source.path], ["overlay2", root.path]);
});

for (const file of ["volumes/metadata.db", "network/files/local-kv.db"])
  test(`whoever holds ${file} as dockerd does keeps us out, and we keep it out`, async () => {
    using root = rootWith({ [used("overlay2")]: "", [file]: "" });
    const path = join(root.path, file);
    const holder = spawn("flock", ["-x", path, "-c", "echo held; read line"], { stdio: ["pipe", "pipe", "inherit"] });
    await once(holder.stdout, "data");
    await assert.rejects(openSource(root.path, undefined), { code: "conflict", message: /a dockerd runs on/ });
    holder.stdin.end("\n");
    await once(holder, "exit");
    const tryLock = async (): Promise<number> => (await once(spawn("flock", ["-n", "-x", path, "true"]), "exit"))[0];
    {
      await using _source = await openSource(root.path, undefined);
      assert.equal(await tryLock(), 1);
    }
    assert.equal(await tryLock(), 0);
  });
