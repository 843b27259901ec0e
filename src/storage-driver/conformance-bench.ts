/** What the cases of the conformance suite share: a driver with verbs, and trees to put into it. */
import {
  chmodSync,
  chownSync,
  cpSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import type { Mounts } from "../base/mount.ts";
import { mountAllAsync, unmountAllAsync } from "../host/mount.ts";
import type { Pool } from "../host/pool.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";
import { inUserNamespace } from "../host/user-namespace.ts";
import type { DriverFactory, LayerRef, StorageDriver } from "./driver.ts";

/** A driver and the verbs that the cases share. */
export type Bench = {
  readonly driver: StorageDriver;
  readonly factory: DriverFactory;
  readonly home: string;
  readonly pool: Pool;
  /** Stages `layer`, lets `fill` work in the mounted tree, commits. */
  layer(layer: LayerRef, fill?: (tree: string) => void): Promise<void>;
  /** Mounts a view for `use`. */
  view<T>(layer: LayerRef, kind: "layer" | "writable", use: (tree: string) => T): Promise<T>;
  writable(layer: LayerRef): Promise<void>;
  /** Mounts anything for `use`. */
  mounted<T>(mounts: Mounts, use: (tree: string) => T): Promise<T>;
};

/** A sentence, and what proves it. */
export type ConformanceCase = readonly [title: string, run: (bench: Bench) => Promise<void>];

type BenchParts = Pick<Bench, "driver" | "factory" | "home" | "pool">;

export function makeBench(parts: BenchParts, scratch: string): Bench {
  const { driver } = parts;
  let views = 0;
  const mounted = async <T>(mounts: Mounts, use: (tree: string) => T): Promise<T> => {
    const target = join(scratch, `view-${views++}`);
    mkdirSync(target);
    try {
      await mountAllAsync(mounts, target);
      return use(target);
    } finally {
      await unmountAllAsync(target);
      rmdirSync(target);
    }
  };
  return {
    ...parts,
    mounted,
    async layer(layer, fill) {
      const { mounts } = await driver.stage(layer);
      if (fill !== undefined) await mounted(mounts, fill);
      await driver.commit(layer);
    },
    async view(layer, kind, use) {
      return mounted(await driver.mounts(layer, kind), use);
    },
    async writable(layer) {
      await driver.createWritable(layer, {});
    },
  };
}

/** Sets all mode bits, whatever the umask. */
export function makeDirectory(path: string, mode = 0o755): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

export const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

/** moby's graphtest base, with every kind of entry. */
export function fillBase(tree: string): void {
  const at = (name: string): string => join(tree, name);
  writeFileSync(at("a file"), "hello");
  chmodSync(at("a file"), 0o4755);
  chownSync(at("a file"), 1, 2);
  chmodSync(at("a file"), 0o4755);
  makeDirectory(at("a subdir"), 0o1705);
  chownSync(at("a subdir"), 1, 2);
  symlinkSync("../target with spaces", at("a link"));
  lchownSync(at("a link"), 3, 4);
  mkdirSync(at("deep/er/still"), { recursive: true });
  writeFileSync(at("deep/er/still/large"), Buffer.alloc(300_000, "x"));
  linkSync(at("deep/er/still/large"), at("deep/same"));
  // In a user namespace nobody makes devices or trusted attributes.
  const nested = inUserNamespace();
  const device = (name: string, mode: number, ...[major, minor]: readonly [number, number]): void =>
    nested
      ? mknodat(AT_FDCWD, at(name), 0o010000 | (mode & 0o7777), 0, 0)
      : mknodat(AT_FDCWD, at(name), mode, major, minor);
  device("null", 0o020666, 1, 3);
  device("disk", 0o060640, 7, 200);
  mknodat(AT_FDCWD, at("pipe"), 0o010600, 0, 0);
  setXattr(AT_FDCWD, at("a file"), "user.note", Buffer.from("kept"));
  setXattr(AT_FDCWD, at("a subdir"), nested ? "user.note" : "trusted.note", Buffer.from([0, 1, 255]));
  setXattr(
    AT_FDCWD,
    at("deep/same"),
    "security.capability",
    Buffer.from("0100000200040000000000000000000000000000", "hex"),
  );
  for (const name of ["deep/same", "a link", "pipe", "a subdir", "deep"]) lutimesSync(at(name), 1000, 1234.5);
}

/** rename(2), or what mv does where a directory of a lower layer cannot be renamed. */
export function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (systemCode(error) !== "EXDEV") throw error;
    cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    rmSync(from, { recursive: true });
  }
}

export const one = { id: "one", parents: [] };
export const two = { id: "two", parents: ["one"] };
export const three = { id: "three", parents: ["two", "one"] };
export const text = (path: string): string => readFileSync(path, "utf8");
