/**
 * Which data in a data root belong to drivers from outside, so that a start without the module can say what it lacks:
 *
 *   <data root>/drivers/<name>.json   {"module": "<absolute path>"}: where the module stood when it was last used
 *
 * The record is written before the driver is opened. It is a hint for people; no module is loaded because of it.
 */
import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { decodeShape } from "../base/shape.ts";
import { syncDirectory, writeFileDurably } from "../host/durable.ts";
import { namesIn } from "../host/names-in.ts";
import type { ModuleFactory } from "./driver-module.ts";

export type RecordedModule = { readonly name: string; readonly module: string };

const shape = v.object({ module: v.string() });

/** Records that the driver of `factory` has (or will have) data in `root`. */
export async function recordModule(root: string, { name, module }: ModuleFactory): Promise<void> {
  const known = (await recordedModules(root)).find((record) => record.name === name);
  if (known?.module === module) return;
  const folder = join(root, "drivers");
  if ((await mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined) await syncDirectory(root);
  await writeFileDurably(join(folder, `${name}.json`), `${JSON.stringify({ module })}\n`, 0o600);
}

/** Every driver from outside that was ever opened on `root`, by name. */
export async function recordedModules(root: string): Promise<readonly RecordedModule[]> {
  const found: RecordedModule[] = [];
  for (const file of (await namesIn(join(root, "drivers"))).filter((name) => name.endsWith(".json")).toSorted()) {
    const path = join(root, "drivers", file);
    const decoded = decodeShape(shape, parse(await readFile(path, "utf8")));
    if (!decoded.ok)
      throw new EngineError(
        "data_loss",
        `${path} is damaged: write {"module": "<path of the driver's module>"} into it`,
      );
    found.push({ name: basename(file, ".json"), module: decoded.value.module });
  }
  return found;
}

/** What to do about data of a driver that is not loaded. */
export const neededModule = ({ name, module }: RecordedModule): string =>
  `the storage driver "${name}" is not part of Strata, but a module of its own (${module} when it was last used): start with --storage-driver and the path of that module`;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
