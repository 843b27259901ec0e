/**
 * `start`: root and volumes are mounted, the process is made, clients that wait are attached, and only then it runs. A
 * failure gives everything back in reverse and stays visible as the container's error and exit code.
 */
import { join } from "node:path";
import { EngineError, isError } from "../base/errors.ts";
import { parseSize } from "../base/size.ts";
import type { Attachment, StartOptions } from "../runtime/runtime.ts";
import { buildSpec } from "../runtime/spec.ts";
import { refuseUnsupported } from "./check-config.ts";
import { writeConfigFiles } from "./config-files.ts";
import { type Context, emit, now, saveLazily, timestamp } from "./context.ts";
import type { Entry } from "./entry.ts";
import { finishRun, rootHolder } from "./exit.ts";
import type { LateAttachment } from "./late-attachment.ts";
import { mountVolumes, specMountsOf } from "./mount-sources.ts";
import { isRemotePoint } from "./remote.ts";
import { removeLocked } from "./remove.ts";
import { beginRun, writeVolatile } from "./run.ts";
import { shareAttachment } from "./share-attachment.ts";
import { specInput } from "./spec-input.ts";
import { startFailure } from "./start-error.ts";

/** False when it runs already. Throws conflict where Docker does, else what kept it from starting. */
export function startContainer(context: Context, entry: Entry): Promise<boolean> {
  return entry.lock.run(async () => {
    if (entry.phase.kind === "removing" || entry.phase.kind === "removed")
      throw new EngineError("conflict", "container is marked for removal and cannot be started");
    if (entry.run?.paused === true)
      throw new EngineError("conflict", "cannot start a paused container, try unpause instead");
    if (entry.isRunning) return false;
    entry.restarts.reset();
    await startLocked(context, entry);
    return true;
  });
}

/** The caller holds the container's lock. */
export async function startLocked(context: Context, entry: Entry): Promise<void> {
  try {
    await launch(context, entry);
  } catch (cause) {
    const { exitCode, error } = startFailure(cause);
    entry.phase = { kind: "idle" };
    const status = entry.saved.status === "created" ? "created" : "exited";
    const failed = { ...entry.saved, status, exitCode, error: error.message } as const;
    for (const client of takeClients(entry)) client.end();
    if (entry.record.hostConfig.AutoRemove === true) {
      entry.saved = failed;
      await removeLocked(context, entry, { volumes: true });
    } else saveLazily(context, entry, failed);
    entry.tellExit();
    throw error;
  }
}

function takeClients(entry: Entry): Entry["attaching"] {
  const clients = new Set(entry.attaching);
  entry.attaching.clear();
  return clients;
}

async function launch(context: Context, entry: Entry): Promise<void> {
  const { runtime } = context;
  refuseUnsupported(entry.record.hostConfig);
  await using undo = new AsyncDisposableStack();
  const created = await makeProcess(context, entry, undo);
  await connectClients([...takeClients(entry)], created.attach);
  const { config, hostConfig } = entry.record;
  const [height = 0, width = 0] = (hostConfig.ConsoleSize ?? []) as readonly number[];
  if (config.Tty === true && height > 0 && width > 0) await runtime.resize(entry.id, undefined, { height, width });
  await runtime.start(entry.id);
  undo.move();
  ran(context, entry, created);
}

/**
 * Whoever waited shares one attachment: the container's keeper accepts one connection at a time, so a second one could
 * come after the first output of a quick process.
 */
async function connectClients(clients: readonly LateAttachment[], attach: () => Promise<Attachment>): Promise<void> {
  if (clients.length < 2) {
    for (const client of clients) await client.connect(attach);
    return;
  }
  const shares = shareAttachment(await attach(), clients.length);
  await Promise.all(
    clients.map(async (client, index) => {
      const share = shares[index];
      if (share !== undefined) await client.connect(async () => share);
    }),
  );
}

/** The process exists and waits; `undo` knows how to take it all back. */
async function makeProcess(context: Context, entry: Entry, undo: AsyncDisposableStack) {
  const { record, id } = entry;
  const directory = join(context.root, "containers", id);
  await using pins = new AsyncDisposableStack();
  const [rootfs, volumes] = await settleAll(
    context.layers.mountWritable(id, rootHolder).then((path) => {
      undo.defer(() => context.layers.unmountWritable(id, rootHolder));
      return path;
    }),
    mountVolumes(context, record, undo),
    writeConfigFiles(record, directory),
  );
  const mounts = await specMountsOf(context, record, { volumes, pins });
  const spec = await buildSpec(await specInput(context, record, { rootfs, mounts }));
  undo.defer(() => context.runtime.remove(id));
  return { ...(await createProcess(context, entry, spec)), rootfs };
}

/** The runtime looks at what it binds; when that does not answer, the error says whose it is. */
async function createProcess(context: Context, entry: Entry, spec: StartOptions["spec"]) {
  const far = entry.record.mounts.filter((point) => isRemotePoint(context, point));
  const deadline = far.length === 0 ? {} : { deadline: context.remote.deadline * 3 };
  try {
    return await context.runtime.create({ ...startOptions(entry, spec), ...deadline });
  } catch (cause) {
    if (far.length === 0 || !isError(cause, "deadline_exceeded")) throw cause;
    const names = far.map(({ type, name, source }) => (type === "volume" ? `volume ${name}` : source)).join(", ");
    throw new EngineError("deadline_exceeded", `${names} did not answer the runtime: ${cause.message}`, { cause });
  }
}

/** Like Promise.all, but nothing is still under way when it rejects. */
async function settleAll<A, B, C>(a: Promise<A>, b: Promise<B>, c: Promise<C>): Promise<[A, B, C]> {
  await Promise.allSettled([a, b, c]);
  return Promise.all([a, b, c]);
}

function startOptions({ record }: Entry, spec: StartOptions["spec"]): StartOptions {
  const { config, hostConfig } = record;
  const size = hostConfig.LogConfig?.Config?.["max-size"];
  const stdin = config.OpenStdin === true;
  return {
    id: record.id,
    spec,
    tty: config.Tty === true,
    stdin,
    keepStdin: stdin && config.StdinOnce !== true,
    logPath: record.logPath === "" ? undefined : record.logPath,
    logSizeMax: size === undefined ? undefined : parseSize(size),
  };
}

function ran(context: Context, entry: Entry, process: { readonly pid: number; readonly rootfs: string }): void {
  const { pid, rootfs } = process;
  const startedAt = now();
  const finish: Parameters<typeof beginRun>[2]["finish"] = (run, status) =>
    finishRun(context, entry, { run, status, start: () => startLocked(context, entry) });
  const state = {
    ...entry.saved,
    status: "running",
    exitCode: 0,
    error: "",
    oomKilled: false,
    startedAt: timestamp(startedAt),
    stoppedByUser: false,
  } as const;
  // What goes with its end needs no memory after a power cut.
  if (entry.record.hostConfig.AutoRemove === true) entry.saved = state;
  else saveLazily(context, entry, state);
  const run = beginRun(context, entry, { pid, rootfs, startedAt, paused: false, stopRequested: false, finish });
  context.background.start(`note the start of container ${entry.id}`, writeVolatile(context, entry, run));
  // Clients that came while the process was being made.
  for (const client of takeClients(entry))
    context.background.start(
      `attach to container ${entry.id}`,
      client.connect(() => context.runtime.attach(entry.id)),
    );
  emit(context, entry, "start");
}
