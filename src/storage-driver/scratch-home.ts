/** Folders for suites: on the scratch filesystem of this machine, or on a fresh filesystem in a file. Given back as a whole. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeLoopFilesystem } from "../host/loop.ts";

type Home = AsyncDisposable & { readonly path: string };

/** A folder below another one, the system's temporary folder if none is named. */
export async function scratchHome(folder = tmpdir()): Promise<Home> {
  const path = await mkdtemp(join(folder, "driver-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** The root of a new filesystem of 512 MiB in a sparse file. */
export async function loopHome(type: "ext4" | "xfs" | "btrfs"): Promise<Home> {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await scratchHome());
  const { path } = stack.use(await makeLoopFilesystem({ type, size: 512 << 20, directory: scratch.path }));
  const kept = stack.move();
  return { path, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
