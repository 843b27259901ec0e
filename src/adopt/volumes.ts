/**
 * Volumes of dockerd's local driver: data, labels and options. What dockerd knows of one stands in `metadata.db` (a bbolt
 * file, see bolt.ts); one that is only a folder is a volume without labels, with the options of its `opts.json`.
 *
 *   <root>/volumes/metadata.db           bucket "volumes": name -> {"Name","Driver","Labels","Options"}
 *   <root>/volumes/<name>/_data          the content
 *   <root>/volumes/<name>/opts.json      {"MountType","MountOpts","MountDevice","Quota":{"Size"}}
 */
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import { decodeShape, looseObject, type Shape, textMap } from "../base/shape.ts";
import { readBucket } from "./bolt.ts";
import { type Adoption, because, type Ending, turn } from "./context.ts";
import type { CopyTask } from "./copy-task.ts";
import { namesIn, readIfThere } from "./read-files.ts";
import type { Item } from "./report.ts";

const tasks = new URL("./copy-task.ts", import.meta.url);

type SourceVolume = {
  readonly name: string;
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
};

/** One path component. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

const text = v.nullish(v.string(), "");
const strings = v.nullish(textMap, {});
const record = looseObject({ Name: v.string(), Driver: text, Labels: strings, Options: strings });
const mountOptions = looseObject({
  MountType: text,
  MountOpts: text,
  MountDevice: text,
  Quota: v.nullish(looseObject({ Size: v.nullish(v.number(), 0) })),
});

/** Adopts every volume. */
export async function adoptVolumes(adoption: Adoption): Promise<readonly Item[]> {
  const items: Item[] = [];
  for (const volume of await listVolumes(adoption)) {
    const about = { kind: "volume", name: volume.name } as const;
    items.push(await turn(adoption, about, () => adoptVolume(adoption, volume)));
  }
  return items;
}

async function listVolumes({ view, report }: Adoption): Promise<readonly SourceVolume[]> {
  const folder = join(view, "volumes");
  const found = new Map((await recorded(folder, report)).map((volume) => [volume.name, volume]));
  for (const name of await namesIn(folder)) {
    if (found.has(name) || !existsSync(join(folder, name, "_data"))) continue;
    found.set(name, { name, driver: "local", labels: {}, options: await optionsOf(folder, name, report) });
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function recorded(folder: string, report: Adoption["report"]): Promise<readonly SourceVolume[]> {
  const path = join(folder, "metadata.db");
  if (!existsSync(path)) return [];
  const volumes: SourceVolume[] = [];
  try {
    for (const [name, value] of readBucket(await readFile(path), "volumes") ?? []) {
      const { Driver, Labels, Options } = decoded(value.toString(), record);
      volumes.push({ name, driver: Driver || "local", labels: Labels ?? {}, options: Options ?? {} });
    }
  } catch (error) {
    report(`volumes/metadata.db cannot be read, so that volumes lose their labels: ${errorMessage(error)}`);
  }
  return volumes;
}

async function optionsOf(folder: string, name: string, report: Adoption["report"]): Promise<SourceVolume["options"]> {
  const content = await readIfThere(join(folder, name, "opts.json"));
  if (content === undefined) return {};
  try {
    const { MountType, MountOpts, MountDevice, Quota } = decoded(content, mountOptions);
    const size = Quota?.Size ?? 0;
    const all = { type: MountType, o: MountOpts, device: MountDevice, size: size > 0 ? String(size) : "" };
    return Object.fromEntries(Object.entries(all).flatMap(([key, value]) => (value ? [[key, value]] : [])));
  } catch (error) {
    report(`volume ${name}: opts.json cannot be read, so that it loses its options: ${errorMessage(error)}`);
    return {};
  }
}

function decoded<T>(content: string, shape: Shape<T>): T {
  const parsed = decodeShape(shape, JSON.parse(content));
  if (parsed.ok) return parsed.value;
  throw new EngineError("data_loss", `${parsed.path}: ${parsed.problem}`);
}

async function adoptVolume(adoption: Adoption, volume: SourceVolume): Promise<Ending> {
  const { target, pool, signal, tell } = adoption;
  const { name, driver, labels, options } = volume;
  if (!namePattern.test(name)) throw because("that is no name of a volume");
  if (target.known.volume(name)) return { outcome: "present", bytes: 0 };
  if (driver !== "local")
    throw because(`its volume driver ${JSON.stringify(driver)} keeps it elsewhere: create it here with that driver`);
  const from = join(adoption.view, "volumes", name, "_data");
  // What has a device is somewhere else; below its mount point there is nothing.
  const hasContent = options.device === undefined;
  if (hasContent && !existsSync(from)) throw new EngineError("data_loss", "its folder _data is missing");
  const bytes = hasContent ? await sizeOf(adoption, from) : 0;
  if (target.stores === undefined) return { outcome: "planned", bytes };
  const fill = async (to: string): Promise<void> => {
    await pool.run<CopyTask, void>(tasks, "copyTreeTask", { from, to }, { signal });
    tell({ event: "bytes", count: bytes });
  };
  const createdAt = await creationTime(join(adoption.view, "volumes", name));
  await target.stores.volumes.create({ name, labels, options, createdAt, ...(hasContent ? { fill } : {}) });
  return { outcome: "adopted", bytes };
}

async function sizeOf({ pool, signal }: Adoption, path: string): Promise<number> {
  const size = await pool.run<{ path: string }, { bytes: number }>(archiveTasks, "treeSizeTask", { path }, { signal });
  return size.bytes;
}

/** As dockerd tells it: when the volume's folder last changed, to the second. */
async function creationTime(folder: string): Promise<string> {
  const { ctime } = await stat(folder);
  return ctime.toISOString().replace(/\.\d+Z$/, "Z");
}
