/**
 * The chain is the truth: whatever the driver keeps, a mounted chain shows what the simplest driver shows, where each
 * tar was applied to the whole tree; and each layer's tar comes back as it was. Set STRATA_SEED to repeat a run.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { ChainId } from "../base/digest.ts";
import { errorCode } from "../base/errors.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { btrfs } from "../storage-driver/btrfs/driver.ts";
import { fuseOverlayfs } from "../storage-driver/fuse-overlayfs/driver.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { loopHome, scratchHome } from "../storage-driver/scratch-home.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { zfs } from "../storage-driver/zfs/driver.ts";
import { cannotMakePool, zfsHome } from "../storage-driver/zfs/zfs-pool.fixture.ts";
import { randomChain } from "./random-tar.fixture.ts";
import { bytes, collectBytes, StoreBench, type TestEntry, tarOf } from "./store.fixture.ts";
import type { PendingLayer } from "./store.ts";

const runs = Number(process.env.STRATA_RUNS ?? 10);
const started = BigInt(Date.now()) * 1_000_000n;

/** Times that the engine's clock gave (nobody described them) differ between two applications. */
const withoutNow = (line: string): string =>
  line.replace(/^(\S+ \S+ \S+) (\d{19})/, (whole, head: string, time: string) =>
    BigInt(time) >= started - 10_000_000_000n ? `${head} now` : whole,
  );

type TestTar = { readonly bytes: Buffer; readonly hasLinks: boolean };

/** What each applied layer shows; the codes of tars that were refused. */
type Shown = { readonly layers: readonly ShownLayer[]; readonly refused: readonly string[] };
type ShownLayer = { readonly lines: readonly string[]; readonly hasLinks: boolean };

/**
 * overlayfs breaks a hard link when it copies one of its names up (kernel, overlayfs.rst, "Non-standard behavior"), and a
 * new link to a file of several names below does that. So, from a tar with links on, the links of inodes that had
 * several names before are not compared.
 */
function withoutBrokenLinks(shown: Shown, truth: Shown): Shown {
  return loosened(shown, truth, { breaks: ({ hasLinks }) => hasLinks, loosen: unlinked });
}

type Loosening = {
  /** Whether a layer may break the links of inodes that had several names before. */
  readonly breaks: (layer: ShownLayer) => boolean;
  /** What is compared of a line whose links may be broken; `told` is the line as it should be. */
  readonly loosen: (line: string, told: string | undefined) => string;
};

function loosened(shown: Shown, truth: Shown, { breaks, loosen }: Loosening): Shown {
  const loose = new Set<string>();
  const layers = shown.layers.map((layer, index) => {
    const told = new Map((truth.layers[index]?.lines ?? []).map((line) => [linkOf(line)[0], line]));
    if (breaks(layer)) for (const name of linkedNames(truth.layers[index - 1]?.lines ?? [])) loose.add(name);
    for (const [path, first] of [...told.values()].map(linkOf))
      if (first !== undefined && (loose.has(path) || loose.has(first)))
        for (const name of [path, first]) loose.add(name);
    const isLoose = (line: string): boolean => linkOf(line).some((name) => loose.has(name ?? ""));
    return {
      hasLinks: layer.hasLinks,
      lines: layer.lines.map((line) => (isLoose(line) ? loosen(line, told.get(linkOf(line)[0])) : line)),
    };
  });
  return { ...shown, layers };
}

const unlinked = (line: string): string => line.replace(/ = \S+/, "");

/** The path of a line, and the path that it shares its inode with. */
function linkOf(line: string): [path: string, first: string | undefined] {
  const [, path = "", first] = /^(\S+)(?:.* = (\S+))?/.exec(line) ?? [];
  return [path, first];
}

const linkedNames = (lines: readonly string[]): string[] =>
  lines.map(linkOf).flatMap(([path, first]) => (first === undefined ? [] : [path, first]));

let containers = 0;
const seen = { layers: 0, refused: 0, shared: 0, corrected: 0, applied: 0 };

/** Registers the chain, compares the tars that come back, and returns what each layer shows. */
async function show({ store }: StoreBench, tars: readonly TestTar[]): Promise<Shown> {
  const pending: PendingLayer[] = [];
  const applied: TestTar[] = [];
  const refused: string[] = [];
  for (const tar of tars) {
    try {
      pending.push(await store.register(pending.at(-1)?.chainId, bytes(tar.bytes, 700)));
      applied.push(tar);
    } catch (error) {
      refused.push(errorCode(error));
    }
  }
  await store.publish(pending, []);
  const layers: ShownLayer[] = [];
  for (const [index, { chainId }] of pending.entries()) {
    layers.push({ lines: await shownBy(store, chainId), hasLinks: applied[index]?.hasLinks === true });
    const tar = await collectBytes(store.tar(chainId));
    assert.equal(tar.equals(applied[index]?.bytes ?? Buffer.alloc(0)), true, "the tar differs");
  }
  return { layers, refused };
}

async function shownBy(store: StoreBench["store"], chainId: ChainId): Promise<string[]> {
  await using tree = await store.mountLayer(chainId);
  return pictureOf(tree.path).map(withoutNow);
}

/** A container can list and delete everything that its image shows. */
async function emptyOut({ store }: StoreBench, top: ChainId): Promise<void> {
  const id = `container-${containers++}`;
  await store.createWritable(id, top, { storageOptions: {}, statements: [] });
  const path = await store.mountWritable(id, "run");
  for (const name of readdirSync(path)) execFileSync("rm", ["-rf", join(path, name)]);
  assert.deepEqual(readdirSync(path), []);
  assert.equal(await store.writableSize(id), 0);
  await store.removeWritable(id, []);
}

type Chain = readonly (readonly TestEntry[])[];
type Compared = (shown: Shown, truth: Shown) => Shown;

async function agree(
  benches: readonly StoreBench[],
  chain: Chain,
  compared: Compared = withoutBrokenLinks,
): Promise<void> {
  const tars: TestTar[] = [];
  for (const entries of chain)
    tars.push({ bytes: await tarOf(...entries), hasLinks: entries.some(({ type }) => type === "link") });
  // In another order the same diffs stand over other parents, and are shared where they can be.
  for (const order of [tars, [...tars.slice(1), ...tars.slice(0, 1)]]) await agreeOn(benches, order, compared);
  for (const bench of benches) {
    countDiffs(bench);
    for (const top of topsOf(bench)) await emptyOut(bench, top);
    await bench.store.collect();
    await bench.assertTidy();
  }
}

const topsOf = ({ store }: StoreBench): readonly ChainId[] => {
  const parents = new Set(store.list().map(({ parent }) => parent));
  return store.list().flatMap(({ chainId }) => (parents.has(chainId) ? [] : [chainId]));
};

function countDiffs({ database, store }: StoreBench): void {
  if (!store.preparesLayers) return;
  const rows = database.all("SELECT diff, thin FROM layer_layers WHERE kind = 'image'");
  const diffs = rows.flatMap(({ diff }) => (diff === null ? [] : [diff]));
  seen.shared += diffs.length - new Set(diffs).size;
  seen.corrected += rows.filter(({ diff, thin }) => diff !== null && thin === 0).length;
  seen.applied += rows.length - diffs.length;
}

async function agreeOn(benches: readonly StoreBench[], tars: readonly TestTar[], compared: Compared): Promise<void> {
  const shown: Shown[] = [];
  for (const bench of benches) shown.push(await show(bench, tars));
  const [truth, ...others] = shown;
  assert.ok(truth !== undefined);
  seen.layers += truth.layers.length;
  seen.refused += truth.refused.length;
  for (const other of others) assert.deepEqual(compared(other, truth), compared(truth, truth));
}

test("a random chain is the same tree on every driver, and gives every tar back", async (context) => {
  const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
  context.diagnostic(`STRATA_SEED=${seed}`);
  await using loop = await loopHome("btrfs");
  await using scratch = await scratchHome();
  await using truth = await StoreBench.open(vfs, scratch.path);
  await using overlay = await StoreBench.open(overlay2, scratch.path);
  await using snapshots = await StoreBench.open(btrfs, loop.path);
  const property = fc.asyncProperty(randomChain, (chain) => agree([truth, overlay, snapshots], chain));
  await fc.assert(property, { seed, numRuns: runs, endOnFailure: process.env.STRATA_SHRINK === undefined });
  context.diagnostic(`${seen.layers} layers, ${seen.refused} tars refused`);
  const { shared, corrected, applied } = seen;
  context.diagnostic(`overlay2: ${shared} diffs shared, ${corrected} corrected, ${applied} applied to the tree`);
  assert.ok(seen.layers > seen.refused, "most tars are applied");
});

/** Without the attributes that fuse-overlayfs keeps for itself and refuses. */
const plain = (entry: TestEntry): TestEntry => {
  const { xattrs, ...rest } = entry;
  const kept = new Map([...(xattrs ?? [])].filter(([name]) => !name.startsWith("trusted.overlay.")));
  return { ...rest, ...(kept.size === 0 ? {} : { xattrs: kept }) };
};

/**
 * When one of several names of a file of the layers below goes, or a new one comes, fuse-overlayfs copies another of them up:
 * it becomes another file, without its setuid and setgid bits; of what is no regular file only the name is kept.
 */
function withoutCopiedLinks(shown: Shown, truth: Shown): Shown {
  const loosen: Loosening["loosen"] = (line, told = line) =>
    /^\S+ 100/.test(told) ? unlinked(withoutSetId(line)) : `${linkOf(line)[0]}`;
  return loosened(shown, truth, { breaks: () => true, loosen });
}

const withoutSetId = (line: string): string =>
  line.replace(/^(\S+) (\d+)/, (_, path: string, mode: string) => {
    return `${path} ${(Number.parseInt(mode, 8) & ~0o6000).toString(8)}`;
  });

test("a random chain is the same tree on fuse-overlayfs, but for its own attributes and copied links", async (context) => {
  const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
  context.diagnostic(`STRATA_SEED=${seed}`);
  await using scratch = await scratchHome();
  await using truth = await StoreBench.open(vfs, scratch.path);
  await using served = await StoreBench.open(fuseOverlayfs, scratch.path);
  const chains = randomChain.map((chain) => chain.map((entries) => entries.map(plain)));
  const property = fc.asyncProperty(chains, (chain) => agree([truth, served], chain, withoutCopiedLinks));
  await fc.assert(property, { seed, numRuns: runs, endOnFailure: process.env.STRATA_SHRINK === undefined });
});

test("a random chain is the same tree on zfs, with links and all", { skip: cannotMakePool() }, async (context) => {
  const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
  context.diagnostic(`STRATA_SEED=${seed}`);
  await using home = await zfsHome();
  await using scratch = await scratchHome();
  await using truth = await StoreBench.open(vfs, scratch.path);
  await using clones = await StoreBench.open(zfs, home.path);
  const exactly: Compared = (shown) => shown;
  const property = fc.asyncProperty(randomChain, (chain) => agree([truth, clones], chain, exactly));
  await fc.assert(property, { seed, numRuns: runs, endOnFailure: process.env.STRATA_SHRINK === undefined });
});
