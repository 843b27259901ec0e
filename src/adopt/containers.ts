/**
 * Containers: record, state, log and what they changed. The layers of its image go in first, also where the image itself
 * was removed; then the writable layer begins with the changes, and becomes one with the record in one transaction.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ChainId } from "../base/digest.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import { insertStatement } from "../container/record.ts";
import { syncDirectory } from "../host/durable.ts";
import { type ContainerFiles, readContainerFiles } from "./container-files.ts";
import { convertLog } from "./container-log.ts";
import { type Converted, convertContainer } from "./container-record.ts";
import { type Adoption, because, counted, type Ending, turn } from "./context.ts";
import type { ChangedLayer } from "./graph.ts";
import type { LayerAdopter } from "./layers.ts";
import type { Item } from "./report.ts";
import type { Stores } from "./target.ts";

type Parts = {
  readonly adoption: Adoption;
  readonly layers: LayerAdopter;
  /** Why a volume did not come, by its name. */
  readonly volumes: ReadonlyMap<string, Item>;
};

type Read = Extract<ContainerFiles["read"], { ok: true }>;

/** Adopts every container. */
export async function adoptContainers(parts: Parts): Promise<readonly Item[]> {
  const { adoption } = parts;
  const items: Item[] = [];
  for (const files of await readContainerFiles(adoption.view)) {
    const about = { kind: "container", name: files.name || files.id, id: files.id } as const;
    items.push(await turn(adoption, about, () => adoptContainer(parts, files)));
  }
  return items;
}

async function adoptContainer(parts: Parts, files: ContainerFiles): Promise<Ending> {
  const { adoption } = parts;
  const { target, graph } = adoption;
  if (target.known.container(files.id)) return { outcome: "present", bytes: 0 };
  if (!files.read.ok) throw new EngineError("data_loss", files.read.problem);
  refuse(parts, files, files.read);
  const { layer, chain, top } = await layerOf(adoption, files.id);
  const bytes = await graph.changesSize(layer);
  const converted = convertContainer(files.read, {
    dataRoot: target.stores?.dataRoot ?? "/",
    mountpoint: (name) => (target.stores === undefined ? "/" : target.stores.volumes.find(name)?.mountpoint),
  });
  if (target.stores === undefined) {
    await parts.layers.plan(chain);
    return { outcome: "planned", bytes, notes: converted.notes };
  }
  const pending = await parts.layers.register(target.stores.layers, chain);
  await target.stores.layers.publish(pending, []);
  await putContainer(adoption, target.stores, { files, layer, top, converted });
  return { outcome: "adopted", bytes, notes: converted.notes };
}

function refuse({ adoption, volumes }: Parts, files: ContainerFiles, { config, host }: Read): void {
  if (config.State.RemovalInProgress || config.State.Dead) throw because("dockerd was removing it");
  if (host.AutoRemove === true) throw because("it goes with its end (--rm), and has ended");
  if (config.Driver !== "" && config.Driver !== adoption.driver)
    throw because(
      `it was made with the storage driver ${JSON.stringify(config.Driver)}: choose that with --from-driver`,
    );
  const holder = adoption.target.known.containerNamed(files.name);
  if (holder !== undefined)
    throw because(`the container ${holder.slice(0, 12)} has its name here: rename that one and adopt again`);
  for (const { Name } of Object.values(config.MountPoints ?? {})) {
    const volume = volumes.get(Name ?? "");
    if (volume?.outcome === "skipped") throw because(`its volume ${Name} did not come: ${volume.reason}`);
  }
}

type ContainerLayer = {
  readonly layer: ChangedLayer;
  readonly chain: Parameters<LayerAdopter["register"]>[1];
  readonly top: ChainId | undefined;
};

async function layerOf({ layerDb }: Adoption, id: string): Promise<ContainerLayer> {
  const { mountId, initId, parent } = await layerDb.mount(id);
  const chain = await layerDb.chain(parent);
  const parents = chain.map(({ cacheId }) => cacheId).reverse();
  return { layer: { id: mountId, init: initId, parents }, chain: chain.map(({ diffId }) => diffId), top: parent };
}

type NewContainer = Pick<ContainerLayer, "layer" | "top"> & {
  readonly files: ContainerFiles;
  readonly converted: Converted;
};

async function putContainer(
  { graph, tell, signal }: Adoption,
  { dataRoot, layers, volumes }: Stores,
  { files, layer, top, converted }: NewContainer,
): Promise<void> {
  const { record, state } = converted;
  const directory = join(dataRoot, "containers", record.id);
  // Without a record it is nobody's; an earlier attempt may have left one.
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true, mode: 0o710 });
  try {
    if (record.logPath !== "") await convertLog(files.folder, record.id, record.logPath);
    await syncDirectory(directory);
    const names = record.mounts.flatMap(({ type, name }) => (type === "volume" && name !== undefined ? [name] : []));
    const hold = top === undefined ? [] : layers.holdStatements(`container:${record.id}`, top);
    await layers.createWritable(record.id, top, {
      storageOptions: record.hostConfig.StorageOpt ?? {},
      statements: [insertStatement(record, state), ...hold, ...volumes.holdStatements(record.id, names)],
      changes: counted(graph.changes(layer, signal), tell),
    });
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error instanceof EngineError ? error : new EngineError("internal", errorMessage(error), { cause: error });
  }
}
