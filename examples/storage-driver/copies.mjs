/**
 * "copies": a whole storage driver in one file that imports nothing of Strata. Every layer is a directory with the full
 * tree, made by GNU cp; where the filesystem can share blocks between files (xfs, btrfs), cp lets them.
 *
 *   <home>/kept/<id>       layers and containers' writables, finished
 *   <home>/staging/<id>    those that are being made
 *   <home>/trash/<random>  removed, waiting for `sweep`
 *
 * Each move between the folders is one rename, so that no id is ever half in sight.
 *
 *   strata daemon --storage-driver ./copies.mjs
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmod, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A failure that the engine understands: `code` is one of docs/errors.md. */
const refuse = (message) => Object.assign(new Error(message), { code: "invalid_argument" });

const refuseOptions = (options) => {
  for (const key of Object.keys(options)) throw refuse(`copies: unknown option ${key} (it has none)`);
};

/** @type {import("strata/storage-driver").DriverFactory} */
export const storageDriver = {
  name: "copies",

  async probe() {
    const { stdout } = await run("cp", ["--version"]).catch(() => ({ stdout: "" }));
    return stdout.includes("GNU") ? undefined : "it copies with GNU cp, which is not here: install coreutils";
  },

  async open(home, options) {
    refuseOptions(options);
    for (const folder of [home, join(home, "kept"), join(home, "staging"), join(home, "trash")]) {
      await mkdir(folder, { recursive: true });
      await chmod(folder, 0o710); // no user of the host walks into images
    }
    return new Copies(home, await sharesBlocks(join(home, "trash")));
  },
};

class Copies {
  name = "copies";

  constructor(home, sharesBlocks) {
    this.home = home;
    this.traits = { keeps: "whole", maxParents: 125, sharesBlocks, containerOptions: [] };
  }

  async stage({ id, parents }) {
    const source = this.#path("staging", id);
    const [parent] = parents;
    if (parent === undefined) {
      await mkdir(source);
      await chmod(source, 0o755);
    } else await this.#copy(this.#path("kept", parent), source);
    return { form: "tree", mounts: [{ kind: "bind", source, readonly: false }] };
  }

  async commit({ id }) {
    await rename(this.#path("staging", id), this.#path("kept", id));
  }

  async createWritable(layer, options) {
    refuseOptions(options);
    await this.stage(layer);
    await this.commit(layer);
  }

  async mounts({ id }, kind) {
    return [{ kind: "bind", source: this.#path("kept", id), readonly: kind === "layer" }];
  }

  /** Whole trees: the engine compares them. */
  changes() {
    return undefined;
  }

  async remove(id) {
    await Promise.all([this.#discard(this.#path("kept", id)), this.#discard(this.#path("staging", id))]);
  }

  async list() {
    return [...new Set([...(await readdir(join(this.home, "kept"))), ...(await readdir(join(this.home, "staging")))])];
  }

  async sweep(signal) {
    const trash = join(this.home, "trash");
    const names = await readdir(trash);
    for (const name of names) {
      signal?.throwIfAborted();
      await rm(join(trash, name), { recursive: true, force: true });
    }
    return names.length;
  }

  async status() {
    return [["Shares Blocks", String(this.traits.sharesBlocks)]];
  }

  describe() {
    return {};
  }

  async [Symbol.asyncDispose]() {}

  /** Ids are the engine's and random; what is no plain name is refused all the same. */
  #path(folder, id) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/.test(id) || ["kept", "staging", "trash"].includes(id))
      throw refuse(`copies: invalid layer id ${JSON.stringify(id)}`);
    return join(this.home, folder, id);
  }

  /** Owners, modes, times, links, devices and xattrs are kept (-a); a copy that fails leaves nothing in sight. */
  async #copy(from, to) {
    try {
      await run("cp", ["-a", "--reflink=auto", "-T", "--", from, to]);
    } catch (error) {
      await this.#discard(to);
      throw error;
    }
  }

  async #discard(path) {
    try {
      await rename(path, join(this.home, "trash", randomUUID()));
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
  }
}

/** Whether two files in `folder` can share blocks, found out by trying. */
async function sharesBlocks(folder) {
  const scratch = join(folder, randomUUID());
  await mkdir(scratch);
  try {
    await writeFile(join(scratch, "one"), "x");
    await run("cp", ["--reflink=always", join(scratch, "one"), join(scratch, "two")]);
    return true;
  } catch {
    return false;
  } finally {
    await rm(scratch, { recursive: true });
  }
}
