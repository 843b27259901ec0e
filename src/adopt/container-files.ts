/**
 * dockerd's record of a container (moby container/container.go): `containers/<id>/config.v2.json`, which knows its state,
 * config and mount points, and `hostconfig.json`. Members that are not listed here are allowed and not needed, but for
 * `Config` and the host config, which are kept whole.
 */
import { join } from "node:path";
import * as v from "valibot";
import { EngineError, errorMessage } from "../base/errors.ts";
import { anyMap, decodeShape, looseObject, type Shape, textList } from "../base/shape.ts";
import { namesIn, readIfThere } from "./read-files.ts";

const text = v.nullish(v.string(), "");
const flag = v.nullish(v.boolean(), false);
const number = v.nullish(v.number(), 0);

const mountPoint = looseObject({
  Type: text,
  Source: text,
  Destination: v.string(),
  RW: flag,
  Name: text,
  Driver: text,
  Relabel: text,
  Propagation: text,
  Spec: v.nullish(anyMap, {}),
});

const configShape = looseObject({
  ID: v.string(),
  Name: text,
  Created: v.string(),
  Path: text,
  Args: v.nullish(textList, []),
  Config: anyMap,
  Image: text,
  Driver: text,
  OS: text,
  RestartCount: number,
  HasBeenManuallyStopped: flag,
  MountPoints: v.nullish(v.record(v.string(), mountPoint), {}),
  NetworkSettings: v.nullish(looseObject({ Networks: v.nullish(anyMap, {}) })),
  State: looseObject({
    Running: flag,
    Paused: flag,
    Restarting: flag,
    RemovalInProgress: flag,
    Dead: flag,
    OOMKilled: flag,
    ExitCode: number,
    Error: text,
    StartedAt: text,
    FinishedAt: text,
  }),
});

export type SourceConfig = v.InferOutput<typeof configShape>;
export type SourceMountPoint = v.InferOutput<typeof mountPoint>;

export type ContainerFiles = {
  readonly id: string;
  /** Without its slash; "" when unknown. */
  readonly name: string;
  readonly folder: string;
  /** What was read, or why it cannot be. */
  readonly read:
    | { readonly ok: true; readonly config: SourceConfig; readonly host: Readonly<Record<string, unknown>> }
    | { readonly ok: false; readonly problem: string };
};

/** Every container below the data root `path`. */
export async function readContainerFiles(path: string): Promise<readonly ContainerFiles[]> {
  const ids = (await namesIn(join(path, "containers"))).filter((id) => /^[0-9a-f]{64}$/.test(id));
  return Promise.all(ids.map((id) => readOne(join(path, "containers", id), id)));
}

async function readOne(folder: string, id: string): Promise<ContainerFiles> {
  try {
    const config = await document(join(folder, "config.v2.json"), configShape);
    const host = await document(join(folder, "hostconfig.json"), anyMap);
    if (config.ID !== id) throw new EngineError("data_loss", "config.v2.json is another container's");
    return { id, name: config.Name.replace(/^\//, ""), folder, read: { ok: true, config, host } };
  } catch (error) {
    return { id, name: "", folder, read: { ok: false, problem: errorMessage(error) } };
  }
}

async function document<T>(path: string, shape: Shape<T>): Promise<T> {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const content = await readIfThere(path);
  if (content === undefined) throw new EngineError("data_loss", `${name} is missing`);
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw new EngineError("data_loss", `${name} is damaged: it is not JSON`, { cause });
  }
  const parsed = decodeShape(shape, value);
  if (parsed.ok) return parsed.value;
  throw new EngineError("data_loss", `${name} is damaged: ${parsed.path}: ${parsed.problem}`);
}

/** By its record. */
export function runs({ read }: ContainerFiles): boolean {
  return read.ok && (read.config.State.Running || read.config.State.Paused || read.config.State.Restarting);
}
