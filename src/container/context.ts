/**
 * What every verb works with: the stores below, the table of containers, and the few ways in which all verbs write
 * state and tell of it. A verb is a function of a context; nothing here decides anything.
 */

import { EngineError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import type { Pool } from "../host/pool.ts";
import type { Remote } from "../host/remote.ts";
import type { ImageStore } from "../image/store.ts";
import type { LayerStore } from "../layer/store.ts";
import type { Database } from "../metadata/database.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { VolumeStore } from "../volume/store.ts";
import type { BackgroundTasks } from "./background.ts";
import type { Entry } from "./entry.ts";
import type { ExecTable } from "./exec-table.ts";
import { NameTable, resolveContainerId } from "./names.ts";
import { type SavedState, stateStatement } from "./record.ts";
import type { VolatileStates } from "./volatile-state.ts";

/** What the engine hands in. */
export type ContainerParts = {
  readonly database: Database;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly volumes: VolumeStore;
  readonly runtime: Runtime;
  readonly events: EventBus;
  readonly pool: Pool;
  /** The way to files that may hang. */
  readonly remote: Remote;
  /** Holds `containers/<id>/`. */
  readonly root: string;
  readonly execRoot: string;
  readonly bootId: string;
};

export type Context = ContainerParts & {
  readonly entries: EntryTable;
  readonly volatile: VolatileStates;
  readonly execs: ExecTable;
  readonly background: BackgroundTasks;
  /** Aborted when the service closes. */
  readonly closing: AbortSignal;
};

/** All containers by id, and their names. */
export class EntryTable {
  readonly names = new NameTable();
  readonly #entries = new Map<string, Entry>();

  add(entry: Entry): void {
    this.names.take(entry.record.name, entry.id);
    this.#entries.set(entry.id, entry);
  }

  remove(entry: Entry): void {
    this.names.release(entry.record.name, entry.id);
    this.#entries.delete(entry.id);
  }

  all(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /** Throws not_found "No such container: x". */
  get(nameOrId: string): Entry {
    const entry = this.#entries.get(resolveContainerId(nameOrId, this.#entries.keys(), this.names));
    if (entry === undefined) throw new EngineError("not_found", `No such container: ${nameOrId}`);
    return entry;
  }
}

/** Attributes that every event of a container carries. */
export function emit(
  context: Context,
  entry: Entry,
  action: string,
  more: Readonly<Record<string, string>> = {},
): void {
  const { image, name, config } = entry.record;
  context.events.emit("container", action, entry.id, { ...config.Labels, image, name, ...more });
}

/** Keeps a new state, and writes it without making anyone wait for the disk. */
export function saveLazily(context: Context, entry: Entry, state: SavedState): void {
  entry.saved = state;
  context.background.start(
    `write the state of container ${entry.id}`,
    context.database.transact([stateStatement(entry.id, state)]),
  );
}

/** The owner under which a container holds its image's layers. */
export const layerOwner = (id: string): string => `container:${id}`;

/** RFC 3339 with nine digits, as Docker writes times. */
export function timestamp(milliseconds: number): string {
  const whole = Math.floor(milliseconds);
  const fraction = Math.floor((milliseconds - whole) * 1e6)
    .toString()
    .padStart(6, "0");
  return `${new Date(whole).toISOString().slice(0, -1)}${fraction}Z`;
}

/** Now, in milliseconds since the epoch, with a fraction. */
export const now = (): number => performance.timeOrigin + performance.now();
