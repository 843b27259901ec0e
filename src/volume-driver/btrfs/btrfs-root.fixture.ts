/** One btrfs of a suite: every case has a folder of its own on it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { makeLoopFilesystem } from "../../host/loop.ts";

export type BtrfsPlace = {
  readonly path: () => string;
  readonly makeRoot: () => Promise<AsyncDisposable & { readonly path: string }>;
};

/** Registers its making before the tests of the suite around the call, and its end after them. */
export function btrfsPlace(): BtrfsPlace {
  const stack = new AsyncDisposableStack();
  let path = "";
  before(async () => {
    const scratch = await mkdtemp(join(tmpdir(), "btrfs-place-"));
    stack.defer(() => rm(scratch, { recursive: true, force: true }));
    path = stack.use(await makeLoopFilesystem({ type: "btrfs", size: 1 << 30, directory: scratch })).path;
  });
  after(() => stack.disposeAsync());
  return {
    path: () => path,
    async makeRoot() {
      const root = await mkdtemp(join(path, "root-"));
      return { path: root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
    },
  };
}
