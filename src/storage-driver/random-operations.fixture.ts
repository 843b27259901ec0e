/**
 * What a container may do to a tree, at random, for suites of `candidates`: what a driver finds that way must be what a
 * walk of both trees finds.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { compareTrees, compareTreesSize, compareTreesTar } from "../archive/compare-trees.ts";
import { AT_FDCWD, mknodat, removeXattr, renameat2, setXattr } from "../host/sys.ts";

export type Operations = Readonly<Record<string, (at: string, to: string) => void>>;

export const kinds = {
  write: (at: string) => {
    mkdirSync(dirname(at), { recursive: true });
    writeFileSync(at, `content of ${at.length}`);
  },
  large: (at: string) => writeFileSync(at, Buffer.alloc(100_000, "x")),
  append: (at: string) => appendFileSync(at, "more"),
  truncate: (at: string) => truncateSync(at, 3),
  mkdir: (at: string) => mkdirSync(at, { recursive: true }),
  remove: (at: string) => rmSync(at, { recursive: true }),
  chmod: (at: string) => chmodSync(at, lstatSync(at).isDirectory() ? 0o711 : 0o640),
  chown: (at: string) => chownSync(at, 5, 6),
  touch: (at: string) => lutimesSync(at, 1000, 2000),
  setXattr: (at: string) => setXattr(AT_FDCWD, at, "user.note", Buffer.from("x")),
  removeXattr: (at: string) => removeXattr(AT_FDCWD, at, "user.note"),
  symlink: (at: string) => symlinkSync("nowhere", at),
  device: (at: string) => mknodat(AT_FDCWD, at, 0o020600, 1, 3),
  /** The same size and time, another content: no change in Docker's eyes. */
  overwrite: (at: string) => {
    const { size, mtimeMs } = lstatSync(at);
    writeFileSync(at, "y".repeat(size));
    utimesSync(at, mtimeMs / 1000, mtimeMs / 1000);
  },
  recreate: (at: string) => {
    const { size, mtimeMs } = lstatSync(at);
    unlinkSync(at);
    writeFileSync(at, "z".repeat(size));
    utimesSync(at, mtimeMs / 1000, mtimeMs / 1000);
  },
  openUnlinked: (at: string) => {
    const fd = openSync(at, "a");
    unlinkSync(at);
    closeSync(fd);
  },
  link: (at: string, to: string) => linkSync(at, to),
  rename: (at: string, to: string) => renameSync(at, to),
  exchange: (at: string, to: string) => renameat2(AT_FDCWD, at, AT_FDCWD, to, 2),
  /** A directory gives way to another, whose files nobody touched. */
  replace: (at: string, to: string) => {
    if (!lstatSync(at).isDirectory() || at.startsWith(`${to}/`)) return;
    rmSync(to, { recursive: true });
    renameSync(at, to);
  },
} satisfies Operations;

const names = ["a", "b", "c", "d\u00e9"];
const path = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));

export type Operation = { readonly kind: string; readonly path: string; readonly other: string };

export const operationOf = (operations: Operations): fc.Arbitrary<Operation> =>
  fc.record({ kind: fc.constantFrom(...Object.keys(operations)), path, other: path });

/** Does it as a container would; what cannot be done is not done. */
export function perform(operations: Operations, root: string, { kind, path: name, other }: Operation): void {
  try {
    operations[kind]?.(join(root, name), join(root, other));
  } catch (error) {
    assert.match(String(error), /E[A-Z]{3,}/);
  }
}

/** Files that are there from the beginning, so that most operations find something. */
export function fillBase(root: string): void {
  for (const one of names)
    for (const two of names) {
      mkdirSync(join(root, one, two), { recursive: true });
      for (const three of ["a", "b"]) writeFileSync(join(root, one, two, three), `${one}${two}${three}`);
    }
}

export type Trees = { readonly base: string; readonly tree: string };

async function tarOf({ base, tree }: Trees, candidates?: readonly string[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const write = async (chunk: Uint8Array): Promise<void> => void chunks.push(Buffer.from(chunk));
  await compareTreesTar(base, tree, { write, candidates });
  return Buffer.concat(chunks);
}

/** List, tar and size are those of a walk of both trees; returns how many changes there are. */
export async function assertFound(trees: Trees, candidates: readonly string[]): Promise<number> {
  const { base, tree } = trees;
  const found = compareTrees(base, tree, { candidates });
  const tar = await tarOf(trees, candidates);
  const size = compareTreesSize(base, tree, { candidates });
  assert.deepEqual(found, compareTrees(base, tree));
  assert.ok(tar.equals(await tarOf(trees)), "the tars differ");
  assert.equal(size, compareTreesSize(base, tree));
  return found.length;
}
