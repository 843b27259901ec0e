/**
 * Mounts that live for one operation, each on a random directory below `<exec root>/mnt`. Whatever is there at
 * start-up belongs to nobody and is taken away.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { Mounts } from "../base/mount.ts";
import { mountAllAsync, unmountAllAsync } from "../host/mount.ts";
import type { MountedTree } from "./store.ts";

export class TemporaryMounts {
  readonly #folder: string;

  constructor(execRoot: string) {
    this.#folder = join(execRoot, "mnt");
  }

  /** Makes the folder; unmounts and removes what an earlier life left in it. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#folder)) await this.#remove(join(this.#folder, name));
  }

  /** Mounts until the tree is disposed. On failure nothing stays. */
  async mount(mounts: Mounts): Promise<MountedTree> {
    const path = join(this.#folder, randomBytes(12).toString("hex"));
    await mkdir(path, { mode: 0o700 });
    try {
      await mountAllAsync(mounts, path);
    } catch (error) {
      await this.#remove(path).catch(() => undefined);
      throw error;
    }
    let disposed: Promise<void> | undefined;
    return {
      path,
      [Symbol.asyncDispose]: () => {
        disposed ??= this.#remove(path);
        return disposed;
      },
    };
  }

  /** Tried twice: a mount that stays holds its layers until the next start. */
  async #remove(path: string): Promise<void> {
    await takeAway(path).catch(() => takeAway(path));
  }
}

async function takeAway(path: string): Promise<void> {
  await unmountAllAsync(path);
  await rmdir(path);
}
