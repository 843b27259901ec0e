/** What the cases of the conformance suite work with: a driver over a fresh root, and trees that are hard to copy. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  chmod,
  chown,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leftBehind } from "../host/left-behind.ts";
import type { Pool } from "../host/pool.ts";
import { AT_FDCWD, mknodat, setXattr } from "../host/sys.ts";
import { pictureOf } from "../host/tree-picture.ts";
import { createPool } from "../host/worker-pool.ts";
import type { VolumeDriver, VolumeSpec } from "./driver.ts";

export type VolumeDriverCase = {
  readonly root: string;
  readonly driver: VolumeDriver;
  readonly pool: Pool;
  /** Opens the driver again over the same root, as a restart of the engine does. */
  readonly reopen: () => Promise<VolumeDriver>;
  /** A volume of this name, the same at every call. */
  readonly spec: (name: string) => VolumeSpec;
  /** Another volume of this name: from now on `spec` gives it. */
  readonly another: (name: string) => VolumeSpec;
};

/** What a driver needs for its volumes. */
export type VolumeSetting = {
  /** Options of a new volume. Where somebody else keeps the data, each `place` is one of its own, and empty. */
  readonly options?: (given: { readonly root: string; readonly place: string }) => VolumeSpec["options"];
  /** Where the engine's data root is; a scratch folder unless told. */
  readonly makeRoot?: () => Promise<AsyncDisposable & { readonly path: string }>;
};

export type OpenVolumeDriver = (options: { readonly root: string; readonly pool: Pool }) => Promise<VolumeDriver>;

/** One case: what must hold, and how it is found out. `spec` is a volume of that name, with more options than it needs. */
export type VolumeCase = readonly [
  title: string,
  work: (given: VolumeDriverCase, spec: (name: string, options?: VolumeSpec["options"]) => VolumeSpec) => Promise<void>,
];

/** Runs `work` over a fresh root. */
export async function withVolumeDriver(
  open: OpenVolumeDriver,
  work: (given: VolumeDriverCase) => Promise<void>,
  { options = () => ({}), makeRoot = scratchRoot }: VolumeSetting = {},
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  // Below what may be a filesystem of the suite's own.
  const root = join(stack.use(await makeRoot()).path, "root");
  const pool = stack.use(createPool());
  const reopen = (): Promise<VolumeDriver> => open({ root, pool });
  const specs = new Map<string, VolumeSpec>();
  const another = (name: string): VolumeSpec => {
    const place = `${name}-${randomBytes(6).toString("hex")}`;
    const spec = { name, options: options({ root, place }) };
    specs.set(name, spec);
    return spec;
  };
  const spec = (name: string): VolumeSpec => specs.get(name) ?? another(name);
  await work({ root, driver: await reopen(), pool, reopen, spec, another });
  // Some stay mounted for as long as they exist.
  const last = await reopen();
  await last.settle?.();
  for (const name of await last.list()) await last.remove({ name, options: {} });
  assert.deepEqual(await leftBehind(root), [], "a mount, loop device or process is left");
  assert.deepEqual(await processesFor(root), [], "a process is left");
}

/** Processes whose words or environment name the folder. */
async function processesFor(root: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid);
  const texts = pids.map(async (pid) => {
    const [words, environment] = await Promise.all(
      ["cmdline", "environ"].map((file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "")),
    );
    return `${words} ${environment}`.includes(root) ? [`${pid}: ${words?.replaceAll("\0", " ")}`] : [];
  });
  return (await Promise.all(texts)).flat();
}

async function scratchRoot(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "volume-driver-"));
  // A case that failed may leave mounts in it: its own error is the one to be told.
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }).catch(() => undefined) };
}

/** Runs `work` on the mounted volume. */
export async function inVolume<T>(
  driver: VolumeDriver,
  spec: VolumeSpec,
  work: (path: string) => Promise<T> | T,
): Promise<T> {
  const path = await driver.mount(spec, "bench");
  try {
    return await work(path);
  } finally {
    await driver.unmount(spec, "bench");
  }
}

/** What a volume shows. */
export const picture = (driver: VolumeDriver, spec: VolumeSpec): Promise<string[]> =>
  inVolume(driver, spec, (path) => pictureOf(path).filter((line) => !line.startsWith("/lost+found")));

/** Fills a directory with what copies lose: owners, modes, times, xattrs, links, holes, pipes, odd names. */
export async function fillHard(path: string): Promise<void> {
  await mkdir(join(path, "folder/inner"), { recursive: true });
  await writeFile(join(path, "folder/file"), "content");
  await writeFile(join(path, "folder/shared"), "one inode");
  await link(join(path, "folder/shared"), join(path, "linked"));
  await writeFile(join(path, "odd \n name '\""), "odd");
  await symlink("folder/file", join(path, "symlink"));
  await symlink("/nowhere", join(path, "dangling"));
  await writeFile(join(path, "holes"), "start");
  await truncate(join(path, "holes"), 8 << 20);
  const holes = await open(join(path, "holes"), "r+");
  await holes.write("middle", 4 << 20);
  await holes.close();
  mknodat(AT_FDCWD, join(path, "pipe"), 0o010644, 0, 0);
  setXattr(AT_FDCWD, join(path, "folder/file"), "user.note", Buffer.from("kept"));
  await chown(join(path, "folder"), 1000, 1001);
  await chown(join(path, "linked"), 7, 8);
  await chmod(join(path, "folder/file"), 0o4711);
  await chmod(join(path, "folder"), 0o1770);
  for (const name of ["folder/file", "folder/inner", "folder"]) await utimes(join(path, name), 1e9, 1e9 + 0.5);
  await chown(path, 33, 34);
  await chmod(path, 0o2751);
  await utimes(path, 1.1e9, 1.1e9);
}
