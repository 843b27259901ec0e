/**
 * The data root of a stock dockerd, looked at and held: nobody may write to it while it is read. dockerd keeps bbolt
 * files in it and holds flock(2) on them for as long as it runs, so a shared lock on the same files tells whether it does,
 * whatever namespace its process is in, and keeps one from starting meanwhile. Nothing below the root is ever written.
 *
 *   <root>/image/<driver>/   imagedb, layerdb, repositories.json      (image-db.ts, layer-db.ts)
 *   <root>/<driver>/         the layers' files                       (graph.ts)
 *   <root>/containers/<id>/  config.v2.json, hostconfig.json, logs   (container-files.ts)
 *   <root>/volumes/          metadata.db, <name>/_data               (volumes.ts)
 */
import { existsSync } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { EngineError, isError, systemCode } from "../base/errors.ts";
import { shareLock } from "../host/lock.ts";
import { readContainerFiles, runs } from "./container-files.ts";
import { graphs, type KnownGraph } from "./graph.ts";
import { namesIn } from "./read-files.ts";

export type Source = AsyncDisposable & {
  /** The data root, links resolved. */
  readonly path: string;
  readonly graph: KnownGraph;
};

/** What dockerd holds a lock on while it runs; either is made at its first start. */
const lockedFiles = ["volumes/metadata.db", "network/files/local-kv.db"];
const remapped = /^\d+\.\d+$/;

/** Holds the root until disposed. Throws not_found, conflict while dockerd or a container runs on it, unsupported for what cannot be read. */
export async function openSource(asked: string, fromDriver: string | undefined): Promise<Source> {
  const path = await existing(asked);
  await refuseRemapped(path);
  await using locks = new AsyncDisposableStack();
  for (const file of lockedFiles) if (existsSync(join(path, file))) locks.use(hold(path, file));
  const graph = await chooseGraph(path, fromDriver);
  await refuseRunning(path);
  const kept = locks.move();
  return { path, graph, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function existing(asked: string): Promise<string> {
  try {
    const path = await realpath(asked);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
  throw new EngineError(
    "not_found",
    `${asked} is no directory: name the data root of a dockerd (often /var/lib/docker)`,
  );
}

function hold(root: string, file: string): Disposable {
  try {
    return shareLock(join(root, file));
  } catch (error) {
    if (!isError(error, "conflict")) throw error;
    throw new EngineError("conflict", `a dockerd runs on ${root} (it holds ${file}): stop it first`, { cause: error });
  }
}

/** With user namespaces on, dockerd shifts every owner; taken as they are, they would be nobody's. */
async function refuseRemapped(path: string): Promise<void> {
  const inside = (await namesIn(path)).find((name) => remapped.test(name) && existsSync(join(path, name, "image")));
  const root = remapped.test(basename(path)) ? path : inside === undefined ? undefined : join(path, inside);
  if (root === undefined || (inside !== undefined && existsSync(join(path, "image")))) return;
  throw new EngineError(
    "unsupported",
    `${root} was written by a dockerd with userns-remap, whose owners are shifted: save its images with docker save and load them here`,
  );
}

async function chooseGraph(path: string, asked: string | undefined): Promise<KnownGraph> {
  const names = asked === undefined ? await driversIn(path) : [asked];
  const [name, ...others] = names;
  if (name === undefined)
    throw new EngineError(
      "unsupported",
      `${path} has no image/<storage driver>: it is no data root of dockerd, or one with the containerd image store (Docker 29's default), which is not read: save its images with docker save and load them here`,
    );
  if (others.length > 0)
    throw new EngineError(
      "conflict",
      `${path} has data of several storage drivers: ${names.join(", ")}: choose one with --from-driver`,
    );
  if (asked !== undefined && !existsSync(join(path, "image", asked)))
    throw new EngineError("not_found", `${path} has no data of the storage driver ${JSON.stringify(asked)}`);
  const graph = graphs.find((known) => known.name === name);
  if (graph !== undefined) return graph;
  const known = graphs.map((one) => one.name).join(", ");
  throw new EngineError(
    "unsupported",
    `${path} was written with the storage driver ${JSON.stringify(name)}, which is not read (${known} are): save its images with docker save and load them here`,
  );
}

/** Those with layers, else those that dockerd has merely opened. */
async function driversIn(path: string): Promise<readonly string[]> {
  const all = await namesIn(join(path, "image"));
  const used: string[] = [];
  for (const name of all)
    for (const folder of ["layerdb/sha256", "layerdb/mounts", "imagedb/content/sha256"])
      if (!used.includes(name) && (await namesIn(join(path, "image", name, folder))).length > 0) used.push(name);
  return used.length > 0 ? used : all.slice(0, 1);
}

async function refuseRunning(path: string): Promise<void> {
  const running = (await readContainerFiles(path)).filter(runs).map(({ name, id }) => name || id.slice(0, 12));
  if (running.length === 0) return;
  throw new EngineError(
    "conflict",
    `by their records these containers of ${path} run: ${running.join(", ")}: stop them with docker stop; after a crash, start dockerd there once and stop it`,
  );
}
