/**
 * The datasets of the driver, below one parent:
 *
 *   <parent>/<id>       layers (fixed by their snapshot `@layer`), writables and stages
 *   <home>/graph/<id>   the place of each: empty, or its mount where a process serves ZFS
 *
 * Each has the property `strata:home`, the home that it belongs to: what else stands below the parent, a person's datasets or
 * those of another engine, is never listed and never destroyed. What was removed has the property `strata:state=removed` and waits for the sweep; to rename it instead, ZFS would want it
 * and its clones out of use.
 * Words: ZFS is *served* where it runs as a process (zfs-fuse): mount(2) knows nothing of it, so each dataset is
 * mounted by ZFS itself on its place. In a kernel, datasets have no mount point of their own (`legacy`).
 */
import { randomBytes } from "node:crypto";
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errorMessage, isError, systemCode } from "../../base/errors.ts";
import type { Mounts } from "../../base/mount.ts";
import { isMountPoint } from "../../host/mount.ts";
import { destroyWhenFree, run } from "../../host/zfs-command.ts";
import { isZfsInKernel } from "../../host/zfs-dataset.ts";

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const reserved = new Set(["trash", "staging"]);
const removed = "strata:state=removed";
const homeProperty = "strata:home";

/** What is in use for longer waits for the next sweep. */
const sweepPatienceMs = 10_000;

type Child = {
  readonly id: string;
  readonly removed: boolean;
  /** The id that it is a clone of, or "". */
  readonly origin: string;
};

export class Datasets {
  readonly parent: string;
  readonly #graph: string;
  /** The value of the property: without white space, which the lists of ZFS are made of. */
  readonly #owner: string;
  readonly #served: boolean;

  constructor(home: string, parent: string) {
    this.parent = parent;
    this.#graph = join(home, "graph");
    this.#owner = encodeURI(home);
    this.#served = !isZfsInKernel();
  }

  async create(): Promise<void> {
    await mkdir(this.#graph, { recursive: true, mode: 0o710 });
  }

  name(id: string): string {
    if (!idPattern.test(id) || reserved.has(id))
      throw new EngineError("invalid_argument", `invalid layer id for a storage driver: ${JSON.stringify(id)}`);
    return `${this.parent}/${id}`;
  }

  place(id: string): string {
    return join(this.#graph, id);
  }

  /** Makes `id`: a clone of the layer `source`, or empty. On failure nothing stays. */
  async make(id: string, source: string | undefined, quota?: number): Promise<void> {
    const name = this.name(id);
    const properties = [`mountpoint=${this.#served ? this.place(id) : "legacy"}`, `${homeProperty}=${this.#owner}`];
    if (quota !== undefined) properties.push(`quota=${quota}`);
    const options = properties.flatMap((property) => ["-o", property]);
    const origin = source === undefined ? [] : [`${this.name(source)}@layer`];
    await this.#makePlace(id);
    try {
      await run("zfs", source === undefined ? "create" : "clone", ...options, ...origin, name);
    } catch (error) {
      // It may have been made and only not been mounted; nobody else's id is touched.
      if (!errorMessage(error).includes("already exists")) await run("zfs", "destroy", name).catch(() => undefined);
      await removePlace(this.place(id));
      throw error;
    }
  }

  /** Fixes `id`. The snapshot is on disk when this returns, and with it all that was written. */
  async fix(id: string): Promise<void> {
    await run("zfs", "snapshot", `${this.name(id)}@layer`);
  }

  /** Where ZFS is served, the dataset is mounted on its place if it is not: ZFS may have been started anew. */
  async mounts(id: string, readonly: boolean): Promise<Mounts> {
    if (this.#served) {
      const place = this.place(id);
      if (!isMountPoint(place)) await this.#mount(id, place);
      return [{ kind: "bind", source: place, readonly }];
    }
    return [{ kind: "filesystem", type: "zfs", source: this.name(id), options: readonly ? ["ro"] : [] }];
  }

  async #mount(id: string, place: string): Promise<void> {
    await mkdir(place, { recursive: true, mode: 0o700 });
    try {
      await run("zfs", "mount", this.name(id));
    } catch (error) {
      // Somebody else was faster.
      if (!isMountPoint(place)) throw error;
    }
  }

  /** Takes `id` out of sight. Unknown: nothing. */
  async discard(id: string): Promise<void> {
    try {
      await run("zfs", "set", removed, this.name(id));
    } catch (error) {
      if (!isError(error, "not_found")) throw error;
    }
  }

  /** Every id in sight. */
  async list(): Promise<string[]> {
    const children = await this.#children();
    return children.filter((child) => !child.removed && idPattern.test(child.id)).map(({ id }) => id);
  }

  /**
   * Destroys what was discarded, clones before their origins; returns how many. One whose clones are still in sight waits
   * for a later time, as ZFS keeps what they share.
   */
  async sweep(signal: AbortSignal | undefined): Promise<number> {
    const left = new Map((await this.#children()).map((child) => [child.id, child]));
    let destroyed = 0;
    for (;;) {
      const origins = new Set([...left.values()].map(({ origin }) => origin));
      const free = [...left.values()].filter(({ id, removed }) => removed && !origins.has(id));
      if (free.length === 0) return destroyed;
      for (const { id } of free) {
        signal?.throwIfAborted();
        if (await this.#destroy(id)) destroyed++;
        left.delete(id);
      }
    }
  }

  /** Makes a dataset that a sweep would take, and where ZFS is served mounts it on `target`; for trials. */
  async makeTrial(target: string): Promise<{ readonly mounts: Mounts } & AsyncDisposable> {
    const name = `${this.parent}/trial-${randomBytes(12).toString("hex")}`;
    const properties = [removed, `${homeProperty}=${this.#owner}`, `mountpoint=${this.#served ? target : "legacy"}`];
    await run("zfs", "create", ...properties.flatMap((property) => ["-o", property]), name);
    return {
      mounts: this.#served ? [] : [{ kind: "filesystem", type: "zfs", source: name, options: [] }],
      async [Symbol.asyncDispose]() {
        await destroyWhenFree(name);
      },
    };
  }

  /** Makes the place of a new `id`; a removed one of that name makes way. */
  async #makePlace(id: string): Promise<void> {
    try {
      await mkdir(this.place(id), { mode: 0o700 });
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw error;
      const old = (await this.#children()).find((child) => child.id === id);
      if (old?.removed === false) throw new EngineError("conflict", `zfs: ${this.name(id)} exists already`);
      if (old !== undefined) await destroyWhenFree(this.name(id));
    }
  }

  /** False when something still needs it, or another sweep was faster. */
  async #destroy(id: string): Promise<boolean> {
    try {
      await destroyWhenFree(`${this.parent}/${id}`, sweepPatienceMs);
    } catch (error) {
      if (isError(error, "conflict") || isError(error, "not_found")) return false;
      throw error;
    }
    await removePlace(this.place(id));
    return true;
  }

  async #children(): Promise<Child[]> {
    const columns = `name,strata:state,${homeProperty},origin`;
    const lines = await run("zfs", "list", "-H", "-o", columns, "-t", "filesystem", "-r", this.parent);
    const prefix = `${this.parent}/`;
    const relative = (name: string): string => (name.startsWith(prefix) ? name.slice(prefix.length) : "");
    return lines
      .split("\n")
      .map((line) => line.split("\t"))
      .filter(([, , home]) => home === this.#owner)
      .map(([name = "", state, , origin = ""]) => ({
        id: relative(name),
        removed: state === "removed",
        origin: relative(origin).replace(/@.*/, ""),
      }))
      .filter(({ id }) => id !== "" && !id.includes("/"));
  }
}

async function removePlace(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
