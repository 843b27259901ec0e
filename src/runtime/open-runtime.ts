/**
 * Puts the runtime together: finds the programs, makes the directories, and binds each verb to its context.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { EngineError } from "../base/errors.ts";
import { isAlive } from "../host/kernel-process.ts";
import { openAttachment } from "./attachment.ts";
import { hadOutOfMemoryKill, processesOf, readCgroupMounts } from "./cgroup.ts";
import { findRecordOf, type RuntimeContext, recordOf, runningCgroup } from "./context.ts";
import { freezeContainer, isFrozen, killContainer, resizeTerminal, updateContainer } from "./control.ts";
import { createContainer } from "./create.ts";
import { execIn } from "./exec.ts";
import { ExitWatch } from "./exit-watch.ts";
import { findExecs } from "./find-execs.ts";
import { bundleOf, layoutOf } from "./layout.ts";
import { type ProgramVersions, readVersions } from "./program-versions.ts";
import { removeContainer, settleLost } from "./remove.ts";
import type { Attachment, ExitStatus, Runtime } from "./runtime.ts";
import { startContainer } from "./start.ts";
import { readStats } from "./stats.ts";
import { listProcesses } from "./top.ts";

export type RuntimeOptions = {
  /** A directory of this boot (`/run/...`). */
  readonly execRoot: string;
  /** Name or path of the OCI runtime; runc when undefined. */
  readonly program?: string | undefined;
  /** Name or path of conmon. */
  readonly conmon?: string | undefined;
  /** Milliseconds after which an attached reader that does not read is cut off; 30 s when undefined. */
  readonly stallLimit?: number | undefined;
};

const defaultStallLimit = 30_000;

/** Opens the runtime over `execRoot`; containers of an earlier daemon are there as they are. Throws unavailable without the programs. */
export async function openRuntime(options: RuntimeOptions): Promise<Runtime> {
  const layout = layoutOf(resolve(options.execRoot));
  const oci = { path: findProgram(options.program ?? "runc"), state: layout.state };
  const conmon = findProgram(options.conmon ?? "conmon");
  for (const path of Object.values(layout)) await mkdir(path, { recursive: true, mode: 0o711 });
  const [cgroups, versions] = await Promise.all([readCgroupMounts(), readVersions(oci.path, conmon)]);
  const exits = new ExitWatch(layout.exits, (id) => settleLost(context, id));
  const stallLimit = options.stallLimit ?? defaultStallLimit;
  const context: RuntimeContext = {
    layout,
    oci,
    conmon,
    cgroups,
    exits,
    stallLimit,
    open: new Set(),
    records: new Map(),
  };
  return runtimeOver(context, versions);
}

function runtimeOver(context: RuntimeContext, versions: ProgramVersions): Runtime {
  return {
    versions: versions.known,
    async create(request) {
      const pid = await createContainer(context, request);
      return { pid, attach: () => attachTo(context, request.id) };
    },
    start: (id) => startContainer(context, id),
    attach: (id) => attachTo(context, id),
    exec: (request, attached) => execIn(context, request, attached),
    execs: (id) => findExecs(context, id),
    resize: (id, execId, size) => resizeTerminal(context, [id, execId], size),
    kill: (id, signal, all = false) => killContainer(context, id, { signal, all }),
    pause: (id) => freezeContainer(context, id, "pause"),
    resume: (id) => freezeContainer(context, id, "resume"),
    frozen: (id) => isFrozen(context, id),
    update: (id, limits) => updateContainer(context, id, limits),
    stats: async (id) => readStats(context.cgroups, await runningCgroup(context, id)),
    top: async (id, args) => listProcesses(await processesOf(context.cgroups, await runningCgroup(context, id)), args),
    exited: (id) => exitOf(context, id),
    pid: (id) => pidOf(context, id),
    remove: (id) => removeContainer(context, id),
    list: () => readdir(context.layout.containers),
    async [Symbol.asyncDispose]() {
      versions[Symbol.dispose]();
      context.exits.close();
      for (const close of [...context.open]) close();
    },
  };
}

async function attachTo(context: RuntimeContext, id: string): Promise<Attachment> {
  return openAttachment(bundleOf(context.layout, id).attachSocket, context.stallLimit);
}

async function exitOf(context: RuntimeContext, id: string): Promise<ExitStatus> {
  const { cgroup } = await recordOf(context, id);
  const { code, at } = await context.exits.wait(id);
  const noted = existsSync(bundleOf(context.layout, id).oom);
  return {
    code,
    at,
    oomKilled: noted || (cgroup !== undefined && (await hadOutOfMemoryKill(context.cgroups, cgroup))),
  };
}

async function pidOf(context: RuntimeContext, id: string): Promise<number | undefined> {
  const record = await findRecordOf(context, id);
  const process = record?.process;
  return process !== undefined && (await isAlive(process)) ? process.pid : undefined;
}

/** PATH and the directories of system programs, which a service's PATH may lack. */
function findProgram(name: string): string {
  const directories = [...(process.env.PATH ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
  const candidates = isAbsolute(name)
    ? [name]
    : directories.filter(isAbsolute).map((directory) => join(directory, name));
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined)
    throw new EngineError("unavailable", `no ${name} on this host: install it, or name its path`);
  return found;
}
