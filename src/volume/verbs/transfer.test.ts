/** Export and import: the same tree comes back; what is not whole, or wants out, leaves nothing. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { changeTree, randomOf } from "../../archive/random-changes.fixture.ts";
import { collect, rawTar, stream } from "../../archive/tree.fixture.ts";
import { pictureOf } from "../../host/tree-picture.ts";
import { type Given, given } from "./verbs.fixture.ts";

const skip = process.getuid?.() === 0 ? false : "trees have owners";
const seed = Number(process.env.STRATA_SEED ?? Date.now() % 1_000_000);
const runs = Number(process.env.STRATA_RUNS ?? 6);

async function filled({ store }: Pick<Given, "store">, name: string, from = seed): Promise<string> {
  const { mountpoint } = await store.create({ name });
  changeTree(mountpoint, randomOf(from), 40);
  return mountpoint;
}

/** Sockets cannot be in a tar. */
const removeSockets = (path: string): void => void execFileSync("find", [path, "-type", "s", "-delete"]);

const names = async ({ store }: Pick<Given, "store">): Promise<readonly string[]> =>
  (await store.list()).volumes.map(({ name }) => name);

describe("export and import", { skip }, () => {
  for (const compress of ["none", "zst"] as const)
    test(`any tree comes back exactly (${compress})`, () =>
      given(async ({ store, verbs }) => {
        for (let run = 0; run < runs; run++) {
          const source = await filled({ store }, `v${run}.a`, seed + run);
          removeSockets(source);
          chownSync(source, 12, 34);
          chmodSync(source, 0o2751);
          const tar = await collect(verbs.export({ name: `v${run}.a` }, { compress }));
          const { volume, entries } = await verbs.import(stream(tar, 5000), { name: `v${run}.b` });
          assert.deepEqual(pictureOf(volume.mountpoint), pictureOf(source), `STRATA_SEED=${seed + run}`);
          assert.equal(entries, Number(execFileSync("sh", ["-c", `find ${source} | wc -l`])));
        }
      }));

  test("holes stay holes, and GNU tar reads all of it with the same eyes", () =>
    given(async ({ root, store, verbs }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      execFileSync("truncate", ["-s", "200M", join(mountpoint, "hole")]);
      const dd = (file: string, seek: number) =>
        execFileSync("dd", ["if=/dev/urandom", `of=${file}`, "bs=4k", "count=2", `seek=${seek}`, "conv=notrunc"], {
          stdio: "ignore",
        });
      dd(join(mountpoint, "hole"), 5000);
      for (const seek of [0, 100, 7]) dd(join(mountpoint, "ends-with-data"), seek);
      chmodSync(join(mountpoint, "hole"), 0o4755);
      writeFileSync(join(mountpoint, ".strata-volume.json"), "a file of that name is a file");
      const tar = await collect(verbs.export({ name: "v1" }));
      assert.ok(tar.length < 1_000_000, `${tar.length}`);
      const { volume } = await verbs.import(stream(tar), { name: "v2" });
      const unpacked = join(root, "gnu");
      mkdirSync(unpacked);
      execFileSync("tar", ["-xp", "--xattrs", "-C", unpacked], { input: tar });
      // The proof is the last member, so it is what GNU tar leaves of the two.
      assert.match(readFileSync(join(unpacked, ".strata-volume.json"), "utf8"), /"sha256"/);
      for (const path of [volume.mountpoint, unpacked]) {
        rmSync(join(path, ".strata-volume.json"));
        execFileSync("cmp", [join(path, "hole"), join(mountpoint, "hole")]);
        execFileSync("cmp", [join(path, "ends-with-data"), join(mountpoint, "ends-with-data")]);
        assert.ok(statSync(join(path, "hole")).blocks < 1000);
        assert.equal(statSync(join(path, "hole")).mode, statSync(join(mountpoint, "hole")).mode);
      }
    }));

  test("what is cut or changed anywhere is refused, and nothing is left of it", () =>
    given(async ({ root, store, verbs }) => {
      const source = await filled({ store }, "v1");
      removeSockets(source);
      const tar = await collect(verbs.export({ name: "v1" }));
      const random = randomOf(seed);
      for (let tries = 0; tries < 25; tries++) {
        const cut = tar.subarray(0, random(tar.length - 2000));
        await assert.rejects(
          verbs.import(stream(cut), { name: "v2" }),
          { code: "invalid_argument" },
          `cut at ${cut.length}`,
        );
        const damaged = Buffer.from(tar);
        // behind the proof are zeros that say nothing
        const at = random(tar.length - 2048);
        damaged[at] = (damaged[at] ?? 0) ^ (1 << random(8));
        await assert.rejects(verbs.import(stream(damaged), { name: "v2" }), `changed at ${at}, STRATA_SEED=${seed}`);
      }
      const more = Buffer.concat([tar.subarray(0, tar.length - 1024), rawTar([{ path: "./more" }])]);
      await assert.rejects(verbs.import(stream(more), { name: "v2" }), /something follows/);
      assert.deepEqual(await names({ store }), ["v1"]);
      assert.deepEqual(readdirSync(join(root, "volumes")), ["v1"]);
    }));

  test("a name that is taken is refused before anything is read; another one's tar only when it is said to be plain", () =>
    given(async ({ store, verbs }) => {
      await store.create({ name: "v1" });
      const never = (async function* (): AsyncGenerator<Uint8Array> {
        yield await Promise.reject(new Error("read"));
      })();
      await assert.rejects(verbs.import(never, { name: "v1" }), { code: "conflict" });
      const other = rawTar([{ path: "f", content: "text" }]);
      await assert.rejects(verbs.import(stream(other), { name: "v2" }), /its end is missing/);
      const { volume, entries } = await verbs.import(stream(other), { name: "v2" }, { plain: true });
      assert.deepEqual([readFileSync(join(volume.mountpoint, "f"), "utf8"), entries], ["text", 1]);
    }));

  test("an archive that wants out of the volume does not get there", () =>
    given(async ({ root, store, verbs }) => {
      const outside = join(root, "outside");
      mkdirSync(outside);
      writeFileSync(join(outside, "f"), "kept");
      const hostile = [
        rawTar([{ path: "../../../outside/f", content: "bad" }]),
        rawTar([
          { path: "l", type: "2", link: outside },
          { path: "l/f", content: "bad" },
        ]),
        rawTar([
          { path: "l", type: "2", link: "../../../outside" },
          { path: "l/f", content: "bad" },
        ]),
        rawTar([
          { path: "h", type: "1", link: "../../../outside/f" },
          { path: "h", content: "bad" },
        ]),
        rawTar([
          { path: "l", type: "2", link: outside },
          { path: "h", type: "1", link: "l/f" },
          { path: "h", content: "bad" },
        ]),
        rawTar([
          { path: "./", type: "2", link: outside },
          { path: "f", content: "bad" },
        ]),
        rawTar([
          {
            path: "s",
            content: "9\n0\n1\n",
            pax: {
              "GNU.sparse.major": "1",
              "GNU.sparse.minor": "0",
              "GNU.sparse.name": "../../../outside/f",
              "GNU.sparse.realsize": "1",
            },
          },
        ]),
      ];
      for (const [index, tar] of hostile.entries()) {
        await verbs.import(stream(tar), { name: `v${index}` }, { plain: true }).catch(() => undefined);
        assert.equal(readFileSync(join(outside, "f"), "utf8"), "kept", `archive ${index}`);
        assert.deepEqual(readdirSync(outside), ["f"]);
      }
      symlinkSync(outside, join((await store.create({ name: "last" })).mountpoint, "link"));
    }));

  test("maps of sparse files that cannot be are refused", () =>
    given(async ({ store, verbs }) => {
      const sparse = (content: string, realsize: string) =>
        rawTar([
          { path: "./", type: "5" },
          {
            path: "s",
            content,
            pax: {
              "GNU.sparse.major": "1",
              "GNU.sparse.minor": "0",
              "GNU.sparse.name": "./s",
              "GNU.sparse.realsize": realsize,
            },
          },
        ]);
      const block = (text: string) => text.padEnd(512, "\0");
      for (const [content, size] of [
        ["", "5"],
        ["1\n", "5"],
        [block("x\n"), "5"],
        [block("1\n0\n6\n"), "5"],
        [`${block("1\n0\n5\n")}abc`, "5"],
        [`${block("1\n0\n2\n")}abc`, "5"],
        [`${block("2\n3\n1\n0\n1\n")}ab`, "5"],
        [block("99999999999999999999\n"), "5"],
        [block("200000\n"), "5"],
        [block("1\n0\n0\n"), "-5"],
        [block("1\n0\n0\n"), "99999999999999999"],
      ] as const)
        await assert.rejects(
          verbs.import(stream(sparse(content, size)), { name: "v1" }, { plain: true }),
          { code: "invalid_argument" },
          JSON.stringify([content.slice(0, 20), size]),
        );
      assert.deepEqual(await names({ store }), []);
      await verbs.import(stream(sparse(`${block("2\n1\n2\n5\n0\n")}ab`, "5")), { name: "v1" }, { plain: true });
      const path = join((await store.get("v1")).mountpoint, "s");
      assert.equal(readFileSync(path, "latin1"), "\0ab\0\0");
    }));

  test("an abort in the middle, on either side, leaves nothing", () =>
    given(async ({ root, store, verbs }) => {
      const { mountpoint } = await store.create({ name: "v1" });
      writeFileSync(join(mountpoint, "big"), Buffer.alloc(20_000_000, 7));
      const stop = new AbortController();
      const taken = async (): Promise<void> => {
        for await (const chunk of verbs.export({ name: "v1" }, { signal: stop.signal }))
          if (chunk.length > 0) stop.abort(new Error("enough"));
      };
      await assert.rejects(taken(), /enough/);
      for await (const chunk of verbs.export({ name: "v1" })) if (chunk.length > 0) break;
      const tar = await collect(verbs.export({ name: "v1" }));
      const broken = (async function* (): AsyncGenerator<Uint8Array> {
        yield* stream(tar.subarray(0, 5_000_000));
        throw new Error("the line broke");
      })();
      await assert.rejects(verbs.import(broken, { name: "v2" }), /the line broke/);
      assert.deepEqual(readdirSync(join(root, "volumes")), ["v1"]);
      await store.remove("v1", { force: false });
    }));
});
