/**
 * Opens the container service: the verbs of this folder over the engine's stores. Containers do not depend on it: they
 * run on when it closes, and the next one takes them up again.
 *
 * On disk: `<root>/containers/<id>/` (hostname, hosts, resolv.conf, `<id>.log`); below the exec root `volatile/` (what is true
 * until the next boot), `trees/` and `subpaths/` (places to mount, empty when unused).
 */
import { EngineError } from "../base/errors.ts";
import { archived } from "./archived.ts";
import { attachContainer } from "./attach.ts";
import { BackgroundTasks, type Report } from "./background.ts";
import { commitContainer } from "./commit.ts";
import type { ContainerService } from "./container.ts";
import { type ContainerParts, type Context, EntryTable } from "./context.ts";
import { createContainer } from "./create.ts";
import { createExec, startExec } from "./exec.ts";
import { ExecTable } from "./exec-table.ts";
import { removeByUser } from "./force-remove.ts";
import { forkContainer } from "./fork.ts";
import { killContainer } from "./kill.ts";
import { listContainers } from "./list.ts";
import { readLogs } from "./logs.ts";
import { processesOf, resizeTerminal, sizeOf, statsOf } from "./look.ts";
import { pauseContainer, unpauseContainer } from "./pause.ts";
import { pruneContainers } from "./prune.ts";
import { renameContainer } from "./rename.ts";
import { restoreContainers } from "./restore.ts";
import { startContainer } from "./start.ts";
import { restartContainer, stopContainer } from "./stop.ts";
import { updateContainer } from "./update.ts";
import { VolatileStates } from "./volatile-state.ts";
import { volumeUsersOf } from "./volume-users.ts";

export { containerSchema } from "./record.ts";

export type ContainerServiceOptions = ContainerParts & {
  /** Told of failures that nobody waits for; warnings of the process when undefined. */
  readonly report?: Report;
};

const warn: Report = (message, error) => process.emitWarning(`${message}: ${String(error)}`, "ContainerWarning");

/** Running containers are taken up again before it resolves; what policies start may start after. */
export async function openContainerService(options: ContainerServiceOptions): Promise<ContainerService> {
  const { report = warn, ...parts } = options;
  const closing = new AbortController();
  const context: Context = {
    ...parts,
    entries: new EntryTable(),
    volatile: new VolatileStates(parts.execRoot, parts.bootId),
    execs: new ExecTable(),
    background: new BackgroundTasks(report),
    closing: closing.signal,
  };
  await restoreContainers(context);
  return serviceOf(context, closing);
}

function serviceOf(context: Context, closing: AbortController): ContainerService {
  const { entries, execs } = context;
  const get = (nameOrId: string) => entries.get(nameOrId);
  return {
    volumeUsers: volumeUsersOf(context),
    create: (request) => createContainer(context, request),
    get: (name) => get(name).view(),
    list: (options) => listContainers(context, options),
    ...livesOf(context),
    size: async (name) => sizeOf(context, get(name)),
    prune: (filters) => pruneContainers(context, filters),
    wait: async (name, condition) => get(name).wait(condition),
    attach: async (name, streams) => attachContainer(context, get(name), streams),
    logs: (name, options) => readLogs(context, get(name), options),
    resize: async (name, size) => resizeTerminal(context, get(name), size),
    top: async (name, psArguments) => processesOf(context, get(name), psArguments),
    stats: async (name) => statsOf(context, get(name)),
    changes: async (name) => context.layers.changes(get(name).id),
    ...archived(context),
    commit: async (name, options) => commitContainer(context, get(name), options),
    fork: async (name, options) => forkContainer(context, get(name), options),
    createExec: async (name, request) => createExec(context, get(name), request),
    getExec: (id) => execs.get(id),
    startExec: (id, options) => startExec(context, id, options),
    resizeExec: async (id, size) => context.runtime.resize(execs.get(id).containerId, id, size),
    usersOf: (imageId) =>
      entries
        .all()
        .filter((entry) => entry.record.imageId === imageId)
        .map((entry) => ({ id: entry.id, running: entry.isRunning })),
    [Symbol.asyncDispose]: () => close(context, closing),
  };
}

/** The verbs that change whether a container runs. */
function livesOf(context: Context) {
  const get = (nameOrId: string) => context.entries.get(nameOrId);
  return {
    start: async (name) => startContainer(context, get(name)),
    stop: async (name, options) => stopContainer(context, get(name), options),
    restart: async (name, options) => restartContainer(context, get(name), options),
    kill: (name, signal) => killContainer(context, name, signal),
    pause: async (name) => pauseContainer(context, get(name)),
    unpause: async (name) => unpauseContainer(context, get(name)),
    rename: async (name, to) => renameContainer(context, get(name), to),
    update: async (name, changes) => updateContainer(context, get(name), changes),
    remove: async (name, options) => removeByUser(context, get(name), options),
  } satisfies Partial<ContainerService>;
}

/** Containers go on; who waits for one of them here is told that this engine will not see its end. */
async function close(context: Context, closing: AbortController): Promise<void> {
  if (closing.signal.aborted) return;
  closing.abort();
  const gone = new EngineError("unavailable", "the engine is closing");
  for (const entry of context.entries.all()) entry.giveUp(gone);
  context.execs.close();
  await context.background.settled();
}
