/**
 * Random changes to a tree, as a container makes them: every kind of entry, attribute and rearrangement.
 *
 * Runs as root beside other people's files, so it cannot leave its folder: it walks by itself and enters real directories
 * only (Node's recursive readdir follows symlinks), every link it makes leads to a name beside it or nowhere, and a path
 * that is not below the root by its real parent is refused.
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";

export type Random = (below: number) => number;

/** mulberry32: the same numbers for the same seed, everywhere. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const names = ["x", "y", "z", ".wh.x", "d", "e", "a b", "\u00e4"] as const;
const linkTargets = ["x", "nowhere", "not/there"] as const;
const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
const impossible = new Set(["EEXIST", "ENOENT", "EISDIR", "ENOTDIR", "EXDEV", "EPERM", "EINVAL", "ENOTEMPTY"]);

/** Makes `count` changes below `root`, a scratch folder. Some meet what cannot be done, and are passed over. */
export function changeTree(root: string, random: Random, count: number): void {
  const real = realpathSync(root);
  assert.ok(real.split("/").length > 3 && /^\/(tmp|var\/tmp)\//.test(real), `${root} is no scratch folder`);
  for (let done = 0; done < count; done++) {
    try {
      changeOnce(real, random);
    } catch (error) {
      if (!impossible.has(systemCode(error) ?? "")) throw error;
    }
  }
}

type Found = { readonly path: string; readonly kind: "directory" | "file" | "link" | "special" };

/** Every entry below the root; links are entries, and never a way. */
function entriesOf(folder: string): Found[] {
  return readdirSync(folder)
    .toSorted()
    .flatMap((name): Found[] => {
      const path = join(folder, name);
      const stat = lstatSync(path);
      if (stat.isDirectory()) return [{ path, kind: "directory" }, ...entriesOf(path)];
      return [{ path, kind: stat.isFile() ? "file" : stat.isSymbolicLink() ? "link" : "special" }];
    });
}

function changeOnce(root: string, random: Random): void {
  const inside = (path: string): string => {
    const parent = dirname(path);
    assert.equal(realpathSync(parent), parent);
    assert.ok(path.startsWith(`${root}/`));
    return path;
  };
  const pick = <T>(list: readonly T[]): T => {
    const found = list[random(list.length)];
    if (found === undefined) throw Object.assign(new Error("there is nothing to pick"), { code: "ENOENT" });
    return found;
  };
  const entries = entriesOf(root);
  const of = (...kinds: readonly Found["kind"][]): string[] =>
    entries.filter(({ kind }) => kinds.includes(kind)).map(({ path }) => path);
  const any = (): string => inside(pick(entries).path);
  const file = (): string => inside(pick(of("file")));
  const notLink = (): string => inside(pick(of("file", "directory")));
  const fresh = inside(join(pick([root, ...of("directory")]), pick(names)));
  const make = [
    () => writeFileSync(fresh, Buffer.alloc(random(20_000), random(256)), { flag: "wx" }),
    () => mkdirSync(fresh),
    () => symlinkSync(pick(linkTargets), fresh),
    () => linkSync(file(), fresh),
    () => mknodat(AT_FDCWD, fresh, 0o020640, 1, 3),
    () => mknodat(AT_FDCWD, fresh, 0o010600, 0, 0),
    () => mknodat(AT_FDCWD, fresh, 0o140755, 0, 0),
    () => sparse(fresh),
  ];
  const change = [
    () => writeFileSync(file(), Buffer.alloc(random(5000), random(256))),
    () => sameTimes(file(), random),
    () => chmodSync(notLink(), pick([0o4755, 0o600, 0o2711, 0o1777, 0o755])),
    () => lchownSync(any(), random(3) * 1000, random(2) * 50),
    () => lutimesSync(any(), 1000 + random(9), -5 + random(1_000_000_000) / 1000),
    () => setXattr(AT_FDCWD, any(), "trusted.note", Buffer.from([random(256)])),
    () => setXattr(AT_FDCWD, file(), "security.capability", capability),
    () => truncateSync(file(), random(100)),
  ];
  const remove = [
    () => rmSync(any(), { recursive: true }),
    () => renameSync(any(), fresh),
    () => replaceDirectory(inside(pick(of("directory"))), random),
  ];
  const kinds = entries.length < 4 ? [make] : [make, make, change, change, remove];
  pick(pick(kinds))();
}

function sparse(path: string): void {
  writeFileSync(path, "start", { flag: "wx" });
  truncateSync(path, 1 << 20);
}

/** Other bytes, the same size and times. */
function sameTimes(path: string, random: Random): void {
  const { size, atimeMs, mtimeMs } = lstatSync(path);
  writeFileSync(path, Buffer.alloc(size, random(256)));
  lutimesSync(path, atimeMs / 1000, mtimeMs / 1000);
}

/** The directory is another one, which hides what was in the first. */
function replaceDirectory(path: string, random: Random): void {
  rmSync(path, { recursive: true });
  mkdirSync(path);
  for (const name of names.slice(0, random(4))) writeFileSync(join(path, name), name, { flag: "wx" });
}
