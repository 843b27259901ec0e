/**
 * A container as rows: the record (fixed at create, but for name and limits) and the state that must outlive the boot.
 * What dies with the boot (pid, paused) is in `volatile-state.ts`.
 */
import * as v from "valibot";
import { parseImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { objectMap } from "../base/shape.ts";
import type { Row, Schema, Statement } from "../metadata/database.ts";
import type { Container, ContainerStatus, HostConfig, MountPoint } from "./container.ts";

export const never = "0001-01-01T00:00:00Z";

/** What `create` fixes, and `rename` and `update` change. */
export type ContainerRecord = Omit<Container, "state" | "restartCount">;

/** What is known of the latest run after a power cut. `running` says that the container ran when it was last written. */
export type SavedState = {
  readonly status: Extract<ContainerStatus, "created" | "running" | "exited" | "dead">;
  readonly exitCode: number;
  readonly error: string;
  readonly oomKilled: boolean;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly restartCount: number;
  /** A user ended it: `unless-stopped` leaves it so at the next boot. */
  readonly stoppedByUser: boolean;
};

export const newState: SavedState = {
  status: "created",
  exitCode: 0,
  error: "",
  oomKilled: false,
  startedAt: never,
  finishedAt: never,
  restartCount: 0,
  stoppedByUser: false,
};

export const containerSchema: Schema = {
  store: "container",
  steps: [
    `CREATE TABLE container (
       id TEXT PRIMARY KEY,
       name TEXT NOT NULL UNIQUE,
       record TEXT NOT NULL,
       state TEXT NOT NULL
     ) STRICT, WITHOUT ROWID`,
  ],
};

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const text = v.string();
const optionalText = v.optional(text);

const mountShape = v.object({
  type: v.picklist(["volume", "bind", "tmpfs"]),
  name: optionalText,
  source: text,
  destination: text,
  driver: optionalText,
  mode: text,
  readWrite: v.boolean(),
  propagation: text,
  copyUp: v.boolean(),
  subpath: optionalText,
  anonymous: v.boolean(),
  nonRecursive: v.boolean(),
  readOnlyMode: v.picklist(["recursive", "non-recursive", "force-recursive"]),
  tmpfsOptions: optionalText,
});

const recordShape = v.object({
  id: v.pipe(text, v.regex(/^[0-9a-f]{64}$/)),
  name: text,
  created: text,
  imageId: v.optional(text),
  image: text,
  path: text,
  args: v.array(text),
  config: v.custom<RunConfig>(isObject),
  hostConfig: v.custom<HostConfig>(isObject),
  mounts: v.array(mountShape),
  networks: objectMap,
  logPath: text,
  hostnamePath: text,
  hostsPath: text,
  resolvConfPath: text,
  transient: v.optional(v.boolean()),
});

const stateShape = v.object({
  status: v.picklist(["created", "running", "exited", "dead"]),
  exitCode: v.number(),
  error: text,
  oomKilled: v.boolean(),
  startedAt: text,
  finishedAt: text,
  restartCount: v.number(),
  stoppedByUser: v.boolean(),
});

type StoredMount = v.InferOutput<typeof mountShape>;

function decodeMount(mount: StoredMount): MountPoint {
  const { name, driver, subpath, tmpfsOptions } = mount;
  return { ...mount, name, driver, subpath, tmpfsOptions };
}

/** Throws data_loss for a row that this engine did not write so. */
export function decodeRow(row: Row): { readonly record: ContainerRecord; readonly state: SavedState } {
  try {
    const stored = v.parse(recordShape, JSON.parse(String(row.record)));
    const imageId = stored.imageId === undefined ? undefined : parseImageId(stored.imageId);
    const record = { ...stored, name: String(row.name), imageId, mounts: stored.mounts.map(decodeMount) };
    return { record, state: v.parse(stateShape, JSON.parse(String(row.state))) };
  } catch (cause) {
    throw new EngineError("data_loss", `the record of container ${String(row.id)} cannot be read`, { cause });
  }
}

/**
 * False for a container that goes with its run (`--rm`) or with an operation: start-up removes its record, so a power
 * cut may. One with volumes survives, since what it knows of them is how they are removed.
 */
export function mustSurvive({ hostConfig, transient, mounts }: ContainerRecord): boolean {
  const goes = hostConfig.AutoRemove === true || transient === true;
  return !goes || mounts.some(({ type }) => type === "volume");
}

export const selectAll = "SELECT id, name, record, state FROM container";

export function insertStatement(record: ContainerRecord, state: SavedState): Statement {
  return {
    sql: "INSERT INTO container (id, name, record, state) VALUES (?, ?, ?, ?)",
    parameters: [record.id, record.name, JSON.stringify(record), JSON.stringify(state)],
  };
}

export function recordStatement(record: ContainerRecord): Statement {
  return {
    sql: "UPDATE container SET name = ?, record = ? WHERE id = ?",
    parameters: [record.name, JSON.stringify(record), record.id],
    changes: 1,
  };
}

/** Without an expectation of `changes`: a state that comes after the removal is nobody's. */
export function stateStatement(id: string, state: SavedState): Statement {
  return { sql: "UPDATE container SET state = ? WHERE id = ?", parameters: [JSON.stringify(state), id] };
}

export function deleteStatement(id: string): Statement {
  return { sql: "DELETE FROM container WHERE id = ?", parameters: [id] };
}
