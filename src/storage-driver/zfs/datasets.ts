/**
 * The datasets of the driver, below one parent:
 *
 *   <parent>/<id>             layers (fixed by their snapshot `@layer`), writables and stages
 *   <parent>/<id>@fork-<hex>  what a writable was when a fork was made of it; goes by itself with the last clone of it
 *   <home>/graph/<id>         the place of each: empty, or its mount where a process serves ZFS
 *
 * Each has the property `strata:home`, the home that it belongs to: what else stands below the parent, a person's datasets or
 * those of another engine, is never listed and never destroyed. What was removed has the property `strata:state=removed` and waits for the sweep; to rename it instead, ZFS would want it
 * and its clones out of use.
 * Words: ZFS is *served* where it runs as a process (zfs-fuse): mount(2) knows nothing of it, so each dataset is
 * mounted by ZFS itself on its place. In a kernel, datasets have no mount point of their own (`legacy`).
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errorMessage, isError, systemCode } from "../../base/errors.ts";
import type { Mounts } from "../../base/mount.ts";
import { syncFilesystem } from "../../host/durable.ts";
import { isMountPoint, mountTable } from "../../host/mount.ts";
import { destroyWhenFree, run } from "../../host/zfs-command.ts";
import { isZfsInKernel } from "../../host/zfs-dataset.ts";
import type { DifferencesArgument } from "./differences.ts";

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const reserved = new Set(["trash", "staging"]);
const removed = "strata:state=removed";
const homeProperty = "strata:home";
const forkPrefix = "fork-";

/** What is in use for longer waits for the next sweep. */
const sweepPatienceMs = 10_000;

type Child = {
  readonly id: string;
  readonly removed: boolean;
  /** The id that it is a clone of, or "". */
  readonly origin: string;
  /** A clone of a writable. */
  readonly fork: boolean;
};

export class Datasets {
  readonly parent: string;
  readonly #graph: string;
  /** The value of the property: without white space, which the lists of ZFS are made of. */
  readonly #owner: string;
  readonly served: boolean;
  /** Snapshots of forks that are being made. */
  readonly #forking = new Set<string>();
  #tidy = false;

  constructor(home: string, parent: string) {
    this.parent = parent;
    this.#graph = join(home, "graph");
    this.#owner = encodeURI(home);
    this.served = !isZfsInKernel();
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
    const properties = quota === undefined ? [] : [`quota=${quota}`];
    await this.#make(id, source === undefined ? undefined : `${this.name(source)}@layer`, properties);
  }

  /**
   * Makes `id` what the writable `source` is at this moment: a clone of a snapshot that ZFS destroys with the last clone
   * of it. Undone when the source has a quota, which what the snapshot keeps would count for: then false.
   */
  async fork(source: string, id: string): Promise<boolean> {
    const from = this.name(source);
    if ((await run("zfs", "get", "-Hp", "-o", "value", "quota", from)).trim() !== "0") return false;
    const snapshot = `${from}@${forkPrefix}${randomBytes(12).toString("hex")}`;
    this.#forking.add(snapshot);
    try {
      await this.#writeOut(source);
      await run("zfs", "snapshot", snapshot);
      try {
        await this.#make(id, snapshot, []);
      } finally {
        await run("zfs", "destroy", "-d", snapshot);
      }
    } finally {
      this.#forking.delete(snapshot);
    }
    return true;
  }

  /** What `zfs diff` needs to know of a clone of `parent`, once what was written to it is with ZFS. */
  async difference(id: string, parent: string): Promise<DifferencesArgument> {
    const mounts = await this.#writeOut(id);
    return { dataset: this.name(id), snapshot: `${this.name(parent)}@layer`, mounts };
  }

  /**
   * A snapshot has what ZFS was given; pages that a program wrote through a mapping are given to it now. Returns where the
   * dataset is mounted.
   */
  async #writeOut(id: string): Promise<string[]> {
    const name = this.name(id);
    const mounts = mountTable().filter(({ type, source }) => /^(fuse\.)?zfs$/.test(type) && source === name);
    for (const { target } of mounts) await syncFilesystem(target);
    return mounts.map(({ target }) => target);
  }

  async #make(id: string, origin: string | undefined, own: readonly string[]): Promise<void> {
    const name = this.name(id);
    const mountpoint = `mountpoint=${this.served ? this.place(id) : "legacy"}`;
    const options = [mountpoint, `${homeProperty}=${this.#owner}`, ...own].flatMap((property) => ["-o", property]);
    await this.#makePlace(id);
    try {
      await run("zfs", origin === undefined ? "create" : "clone", ...options, ...(origin ? [origin] : []), name);
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
    if (this.served) {
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
   * Destroys what was discarded, clones before their origins; returns how many. A writable that lives on in a fork leaves
   * that what they share. A layer whose clones are still in sight waits for a later time.
   */
  async sweep(signal: AbortSignal | undefined): Promise<number> {
    if (!this.#tidy) await this.#tidyUp();
    this.#tidy = true;
    let destroyed = 0;
    for (;;) {
      destroyed += await this.#destroyFree(signal);
      if (!(await this.#promote(signal))) return destroyed;
    }
  }

  async #destroyFree(signal: AbortSignal | undefined): Promise<number> {
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

  /** Makes a fork the origin of the removed writable that it was made of, and of that one's older forks; false when there is none. */
  async #promote(signal: AbortSignal | undefined): Promise<boolean> {
    const children = await this.#children();
    const gone = new Set(children.filter(({ removed }) => removed).map(({ id }) => id));
    const heir = children.find(({ removed, origin, fork }) => !removed && fork && gone.has(origin));
    if (heir === undefined) return false;
    signal?.throwIfAborted();
    try {
      await run("zfs", "promote", this.name(heir.id));
      return true;
    } catch (error) {
      // Removed and destroyed meanwhile.
      if (isError(error, "not_found")) return true;
      throw error;
    }
  }

  /** What a process that was killed left: snapshots of forks that were not made, places of datasets that are gone. */
  async #tidyUp(): Promise<void> {
    const places = await readdir(this.#graph);
    const children = new Set((await this.#children()).map(({ id }) => id));
    for (const id of places.filter((name) => !children.has(name))) await removePlace(this.place(id));
    const snapshots = (await run("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-r", this.parent)).split("\n");
    for (const snapshot of snapshots) {
      const [, id = "", label = ""] = /^.*\/([^/@]+)@(.*)$/.exec(snapshot) ?? [];
      if (!children.has(id) || !label.startsWith(forkPrefix) || this.#forking.has(snapshot)) continue;
      await run("zfs", "destroy", "-d", snapshot);
    }
  }

  /** Makes a dataset that a sweep would take, and where ZFS is served mounts it on `target`; for trials. */
  async makeTrial(target: string): Promise<{ readonly mounts: Mounts } & AsyncDisposable> {
    const name = `${this.parent}/trial-${randomBytes(12).toString("hex")}`;
    const properties = [removed, `${homeProperty}=${this.#owner}`, `mountpoint=${this.served ? target : "legacy"}`];
    await run("zfs", "create", ...properties.flatMap((property) => ["-o", property]), name);
    return {
      mounts: this.served ? [] : [{ kind: "filesystem", type: "zfs", source: name, options: [] }],
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
        fork: origin.includes(`@${forkPrefix}`),
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
