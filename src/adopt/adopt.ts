/**
 * `strata adopt`: takes over what a stock dockerd left in its data root: volumes, images with all their names, stopped
 * containers. The source is held (source.ts) and only ever read, through a read-only view; every object goes in by the
 * store's ordinary way, which verifies it and makes it durable before it counts, so that a run that was cut off leaves
 * only whole objects and the next one brings the rest. Offline: no engine may run on the target.
 */
import { mkdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { EngineError } from "../base/errors.ts";
import { createPool } from "../host/worker-pool.ts";
import { TemporaryMounts } from "../layer/temporary-mounts.ts";
import { adoptContainers } from "./containers.ts";
import type { Adoption } from "./context.ts";
import { ImageDb } from "./image-db.ts";
import { adoptImages } from "./images.ts";
import { LayerDb } from "./layer-db.ts";
import { LayerAdopter } from "./layers.ts";
import type { AdoptReport, Item, Tell } from "./report.ts";
import { openSource } from "./source.ts";
import { lookAtTarget, openTarget } from "./target.ts";
import { adoptVolumes } from "./volumes.ts";

export type AdoptOptions = {
  /** dockerd's data root. */
  readonly from: string;
  /** dockerd's storage driver; found out when undefined. */
  readonly fromDriver?: string | undefined;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly storageDriver?: string | undefined;
  /** Tells what would come, and changes nothing. */
  readonly dryRun?: boolean;
  readonly tell?: Tell;
  readonly signal?: AbortSignal;
};

/** Throws conflict while a dockerd or a container runs on the source, or an engine on the target; unsupported for a source that cannot be read. */
export async function adoptDockerRoot(options: AdoptOptions): Promise<AdoptReport> {
  const { dryRun = false } = options;
  const [dataRoot, execRoot] = [resolve(options.dataRoot), resolve(options.execRoot)];
  await using stack = new AsyncDisposableStack();
  const source = stack.use(await openSource(options.from, options.fromDriver));
  for (const path of [dataRoot, execRoot]) refuseInside(path, source.path);
  const pool = stack.use(createPool());
  const open = dryRun ? lookAtTarget : openTarget;
  const target = await open({ dataRoot, execRoot, storageDriver: options.storageDriver, pool }, stack);
  await mkdir(join(execRoot, "mnt"), { recursive: true, mode: 0o700 });
  const mounts = new TemporaryMounts(execRoot);
  // Read-only, so that not even a time of access changes; with all that is mounted below.
  const view = stack.use(
    await mounts.mount([{ kind: "bind", source: source.path, readonly: true, recursive: true }]),
  ).path;
  const problems: string[] = [];
  const imageRoot = join(view, "image", source.graph.name);
  const adoption: Adoption = {
    view,
    driver: source.graph.name,
    graph: source.graph.open({ home: join(view, source.graph.name), pool, mount: (steps) => mounts.mount(steps) }),
    layerDb: new LayerDb(imageRoot),
    target,
    pool,
    tell: options.tell ?? (() => undefined),
    signal: options.signal ?? new AbortController().signal,
    report: (problem) => void problems.push(problem),
  };
  return {
    source: { path: source.path, driver: source.graph.name },
    target: { path: dataRoot, driver: target.driver },
    dryRun,
    items: await adoptAll(adoption, new ImageDb(imageRoot)),
    problems,
  };
}

async function adoptAll(adoption: Adoption, images: ImageDb): Promise<readonly Item[]> {
  const layers = new LayerAdopter(adoption);
  const volumes = await adoptVolumes(adoption);
  const adoptedImages = await adoptImages({ adoption, images, layers });
  const byName = new Map(volumes.map((volume) => [volume.name, volume]));
  return [...volumes, ...adoptedImages, ...(await adoptContainers({ adoption, layers, volumes: byName }))];
}

/** What is read must not be written. */
function refuseInside(path: string, source: string): void {
  const way = relative(source, path);
  if (way === "" || (!way.startsWith("../") && way !== ".."))
    throw new EngineError(
      "invalid_argument",
      `${path} is inside of ${source}, which is only read: name another place with --data-root or --exec-root`,
    );
}
