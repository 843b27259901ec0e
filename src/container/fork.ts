/**
 * `strata fork`: a second container with the same writable layer, as it is at this moment. The source's lock is held and
 * its processes are frozen for as long as its files are copied, so the fork is what a power cut would have left, and
 * nothing half-written by the engine. The new container has an id, a name, files and logs of its own; volumes with a name
 * and binds are the same ones, anonymous volumes are copied unless asked otherwise. What fails leaves nothing.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";
import { configPaths } from "./config-files.ts";
import type { ForkOptions } from "./container.ts";
import { type Context, emit, layerOwner, now, timestamp } from "./context.ts";
import { Entry } from "./entry.ts";
import { forkMounts } from "./fork-volumes.ts";
import { volumeNames } from "./mount-sources.ts";
import { parseContainerName } from "./names.ts";
import { holdLocked, unpauseLocked } from "./pause.ts";
import { type ContainerRecord, insertStatement, newState } from "./record.ts";

export async function forkContainer(
  context: Context,
  source: Entry,
  options: ForkOptions,
): Promise<{ readonly id: string }> {
  const asked = options.name ? parseContainerName(options.name) : undefined;
  const id = randomBytes(32).toString("hex");
  await using undo = new AsyncDisposableStack();
  const names = context.entries.names;
  const name = asked ?? names.takeRandom(id);
  if (asked !== undefined) names.take(asked, id);
  undo.defer(() => names.release(name, id));
  const record = await source.lock.run(async () => {
    source.refuseGone();
    refuseTransient(source);
    await using _still = await standStill(context, source);
    return copyLocked(context, { source, id, name, volumes: options.volumes, undo });
  });
  const entry = new Entry(record, newState);
  context.entries.add(entry);
  undo.move();
  emit(context, entry, "create");
  return { id };
}

function refuseTransient({ id, record }: Entry): void {
  if (record.transient === true)
    throw new EngineError("conflict", `container ${id} belongs to a build and goes with it: fork it no more`);
}

/** Freezes what runs until it is disposed; one that a person paused stays so. */
async function standStill(context: Context, source: Entry): Promise<AsyncDisposable> {
  if (source.run === undefined || source.run.paused) return { [Symbol.asyncDispose]: async () => undefined };
  await holdLocked(context, source);
  return {
    [Symbol.asyncDispose]: async () => {
      // What was killed meanwhile needs no thawing. One that cannot be thawed is told of, and the fork is there all the same.
      if (source.run?.paused !== true) return;
      const thawed = unpauseLocked(context, source);
      context.background.start(`unpause container ${source.id}`, thawed);
      await thawed.catch(() => undefined);
    },
  };
}

type Copying = {
  readonly source: Entry;
  readonly id: string;
  readonly name: string;
  readonly volumes: ForkOptions["volumes"];
  readonly undo: AsyncDisposableStack;
};

async function copyLocked(context: Context, copying: Copying): Promise<ContainerRecord> {
  const { source, id } = copying;
  const { layers, volumes } = context;
  const mounts = await forkMounts(context, source.record, copying);
  const record = { ...recordOf(context, copying), mounts };
  await layers.forkWritable(source.id, id, {
    storageOptions: record.hostConfig.StorageOpt ?? {},
    statements: [
      insertStatement(record, newState),
      ...layers.shareStatements(layerOwner(id), layerOwner(source.id)),
      ...volumes.holdStatements(id, volumeNames(record)),
    ],
  });
  return record;
}

/** A hostname that is the container's own short id becomes that of the fork; one that was asked for stays. */
function recordOf(context: Context, { source, id, name }: Copying): ContainerRecord {
  const { record } = source;
  const directory = join(context.root, "containers", id);
  const isOwnName = record.config.Hostname === source.id.slice(0, 12);
  return {
    ...record,
    id,
    name,
    created: timestamp(now()),
    config: isOwnName ? { ...record.config, Hostname: id.slice(0, 12) } : record.config,
    logPath: record.logPath === "" ? "" : join(directory, `${id}.log`),
    ...configPaths(directory),
  };
}
