import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { applyLayer } from "./apply-layer.ts";
import { Model, ModelError } from "./layer-model.fixture.ts";
import { restoreTar } from "./restore-tar.ts";
import { collect, describeTree, type RawEntry, rawTar, scratch, stream } from "./tree.fixture.ts";

const name = fc.constantFrom("a", "b", "c", "d.e");
const plainPath = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
/** Symlinks have names of their own, so that no path leads through one: that has its own tests. */
const symlinkPath = fc.tuple(plainPath, fc.constantFrom("s", "t")).map((parts) => parts.join("/"));
const xattrs = fc.oneof(
  { weight: 4, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.constantFrom("one", "two\xff\0").map((value) => ({ pax: { "SCHILY.xattr.user.k": value } })),
  },
);
const attributes = fc.record({
  uid: fc.constantFrom(0, 7, 1000),
  gid: fc.constantFrom(0, 8),
  mode: fc.constantFrom(0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0),
  mtime: fc.integer({ min: 0, max: 2_000_000_000 }),
});
const content = fc.oneof(
  fc.constantFrom("", "x", "hello"),
  fc.integer({ min: 500, max: 5000 }).map((length) => "0123456789".repeat(length).slice(0, length)),
);

const entry: fc.Arbitrary<RawEntry> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(plainPath, content, attributes, xattrs)
      .map(([path, text, more, pax]) => ({ path, content: text, ...more, ...pax })),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(plainPath, attributes, xattrs)
      .map(([path, more, pax]) => ({ path: `${path}/`, type: "5", ...more, ...pax })),
  },
  { weight: 3, arbitrary: fc.tuple(plainPath, plainPath).map(([path, link]) => ({ path, type: "1", link })) },
  {
    weight: 1,
    arbitrary: fc.tuple(symlinkPath, attributes).map(([path, more]) => ({ path, type: "2", link: "/a/b", ...more })),
  },
  { weight: 1, arbitrary: fc.tuple(plainPath, attributes).map(([path, more]) => ({ path, type: "6", ...more })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(plainPath, attributes)
      .map(([path, more]) => ({ path, type: "3", major: 1, minor: 3, ...more })),
  },
  { weight: 4, arbitrary: plainPath.map((path) => ({ path: path.replace(/([^/]+)$/, ".wh.$1") })) },
  {
    weight: 1,
    arbitrary: fc.option(plainPath).map((path) => ({ path: `${path === null ? "" : `${path}/`}.wh..wh..opq` })),
  },
  { weight: 1, arbitrary: attributes.map((more) => ({ path: "./", type: "5", ...more })) },
);

/** What may stand in a tar besides entries. */
const oddity = fc.constantFrom<RawEntry>(
  { path: "pax_global_header", type: "g", content: "20 comment=whatever\n" },
  { path: ".wh..wh.aufs", content: "aufs' own" },
  { path: ".wh..wh.plnk/9", content: "a link" },
);
const end = fc.constantFrom(
  "",
  "\0".repeat(512),
  "\0".repeat(1024),
  "\0".repeat(10240),
  `${"\0".repeat(1024)}trailing garbage`,
);
const layer = fc.record({
  entries: fc.array(entry, { maxLength: 14 }),
  odd: fc.array(fc.tuple(fc.nat(13), oddity), { maxLength: 2 }),
  end,
});
type Layer = {
  readonly entries: readonly RawEntry[];
  readonly odd: readonly (readonly [number, RawEntry])[];
  readonly end: string;
};

function tarOf({ entries, odd, end: tail }: Layer): Buffer {
  const all = [...entries];
  for (const [at, what] of odd) all.splice(at, 0, what);
  return rawTar(all, Buffer.from(tail, "latin1"));
}

const parameters = {
  numRuns: Number(process.env.FC_RUNS ?? 150),
  ...(process.env.FC_SEED === undefined ? {} : { seed: Number(process.env.FC_SEED) }),
};

/** Applies a layer in the model; undefined when the model says that it is broken. */
function expected(model: Model, entries: readonly RawEntry[]): Record<string, string> | undefined {
  try {
    model.forgetTimes();
    model.apply(entries);
    return model.describe();
  } catch (error) {
    if (error instanceof ModelError) return undefined;
    throw error;
  }
}

test("a random chain of layers becomes the tree that the model says, and every tar comes back", async () => {
  let compared = 0;
  const chain = fc.array(layer, { minLength: 1, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(chain, fc.constantFrom(100, 65536), async (layers, cut) => {
      using directory = scratch();
      mkdirSync(directory.sub("root"));
      const recipePath = directory.sub("recipe");
      const model = new Model();
      for (const one of layers) {
        const tree = expected(model, one.entries);
        if (tree === undefined) return;
        const tar = tarOf(one);
        await applyLayer(stream(tar, cut), directory.sub("root"), { recipePath });
        assert.deepEqual(describeTree(directory.sub("root"), { directoryTimes: false }), tree);
        for (const [path, time] of Object.entries(model.times()))
          assert.equal(lstatSync(directory.sub(`root${path}`)).mtimeMs, time * 1000, path);
        assert.ok((await collect(restoreTar(recipePath, directory.sub("root")))).equals(tar), "bit for bit");
        compared++;
      }
    }),
    parameters,
  );
  assert.ok(compared > parameters.numRuns / 4, `only ${compared} layers were compared`);
});

test("a random chain of layers is the same tree on overlayfs as on a plain directory", async () => {
  const chain = fc.array(layer, { minLength: 2, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(chain, async (layers) => {
      using directory = scratch();
      mkdirSync(directory.sub("plain"));
      mkdirSync(directory.sub("merged"));
      mkdirSync(directory.sub("0"));
      let lower = directory.sub("0");
      for (const [index, one] of layers.entries()) {
        const tar = tarOf(one);
        const plain = await applyLayer(stream(tar), directory.sub("plain"), { recipePath: directory.sub("r0") }).catch(
          () => undefined,
        );
        if (plain === undefined) return;
        const upper = directory.sub(`u${index}`);
        mkdirSync(upper);
        // The merged root is the upper's own: a driver hands its attributes on.
        const { mode, uid, gid } = lstatSync(lower.split(":")[0] ?? "");
        chownSync(upper, uid, gid);
        chmodSync(upper, mode & 0o7777);
        mkdirSync(directory.sub(`w${index}`));
        const options = `lowerdir=${lower},upperdir=${upper},workdir=${directory.sub(`w${index}`)}`;
        execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, directory.sub("merged")]);
        try {
          const layered = await applyLayer(stream(tar), directory.sub("merged"), { recipePath: directory.sub("r1") });
          assert.deepEqual(layered, plain);
          const options = { directoryTimes: false };
          assert.deepEqual(
            describeTree(directory.sub("merged"), options),
            describeTree(directory.sub("plain"), options),
          );
          assert.ok(
            (await collect(restoreTar(directory.sub("r1"), directory.sub("merged")))).equals(tar),
            "bit for bit",
          );
        } finally {
          execFileSync("umount", [directory.sub("merged")]);
        }
        lower = `${upper}:${lower}`;
      }
    }),
    { ...parameters, numRuns: Math.ceil(parameters.numRuns / 6) },
  );
});
