/** Entries that are written at once are the same bytes as those that are written step by step. Set STRATA_SEED to repeat a run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomOf } from "./random-changes.fixture.ts";
import { type NewEntry, TarWriter } from "./write-tar.ts";

const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);

type File = { readonly entry: NewEntry; readonly content: Buffer };

/** A file that may shrink while it is read. */
function randomFile(random: (below: number) => number, number: number): File {
  const names = [`f${number}`, `${"d/".repeat(random(70))}f${number}`, `caf\xc3\xa9-${number}`, `\xff${number}`];
  const size = [0, 1, 511, 512, 513, random(5000), random(400_000)][random(7)] ?? 0;
  const entry: NewEntry = {
    path: names[random(names.length)] ?? "",
    type: "file",
    mode: random(0o10000),
    uid: [0, 1000, 3_000_000][random(3)] ?? 0,
    gid: random(100),
    size,
    mtime: random(2_000_000_000),
    mtimeNsec: random(4) === 0 ? random(1_000_000_000) : 0,
    xattrs: new Map(random(5) === 0 ? [["user.a", Buffer.from([random(256)])]] : []),
  };
  return { entry, content: Buffer.alloc(random(8) === 0 ? random(size + 1) : size, number % 250 || 1) };
}

async function writeAll(
  files: readonly File[],
  here: boolean,
): Promise<{ readonly tar: Buffer; readonly quick: number }> {
  const parts: Uint8Array[] = [];
  const tar = new TarWriter(async (chunk) => void parts.push(chunk));
  let quick = 0;
  for (const { entry, content } of files) {
    const space = here ? tar.beginHere(entry) : undefined;
    if (space === undefined) {
      await tar.begin(entry);
      await tar.data(content);
      await tar.end(true);
      continue;
    }
    quick++;
    assert.equal(space.length, entry.size);
    space.set(content);
    tar.endHere(content.length);
  }
  await tar.finish();
  return { tar: Buffer.concat(parts), quick };
}

test(`what is written at once is the same as what is written step by step (seed ${seed})`, async () => {
  const random = randomOf(seed);
  for (let round = 0; round < 10; round++) {
    const files = Array.from({ length: 200 }, (_, number) => randomFile(random, number));
    const [slow, quick] = [await writeAll(files, false), await writeAll(files, true)];
    assert.ok(slow.tar.equals(quick.tar), `round ${round}`);
    assert.ok(quick.quick > 20 && quick.quick < files.length, `${quick.quick} were written at once`);
  }
});
