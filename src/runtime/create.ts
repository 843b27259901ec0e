/**
 * `create`: conmon is started in the container's bundle, calls the OCI runtime's `create`, and tells the pid of the
 * process that waits to be started. On failure everything is taken back, and the error carries the runtime's own words.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { EngineError, systemCode } from "../base/errors.ts";
import { descendantsOf, identify, type ProcessIdentity, signalProcess } from "../host/kernel-process.ts";
import { type Conmon, settleConmon, spawnConmon } from "./conmon.ts";
import { enterConmonCgroup } from "./conmon-cgroup.ts";
import type { RuntimeContext } from "./context.ts";
import { within } from "./deadline.ts";
import { bundleOf, exitFileOf, type ProcessDirectory } from "./layout.ts";
import { type ProcessRecord, writeRecord } from "./process-record.ts";
import { removeContainer } from "./remove.ts";
import type { OciSpec, StartOptions } from "./runtime.ts";
import { createFailure, lastError } from "./runtime-words.ts";

/** Enough for a runtime whose mounts wait for a slow disk. */
const createDeadline = 60_000;

export async function createContainer(context: RuntimeContext, options: StartOptions): Promise<number> {
  const bundle = bundleOf(context.layout, options.id);
  await mkdir(bundle.path, { mode: 0o700 }).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
    throw new EngineError("conflict", `container ${options.id} is at the runtime already: remove it first`);
  });
  try {
    return await launch(context, options, bundle);
  } catch (error) {
    // The first failure is the one to tell.
    await removeContainer(context, options.id).catch(() => {});
    throw error;
  }
}

async function launch(context: RuntimeContext, options: StartOptions, bundle: ProcessDirectory): Promise<number> {
  const [conmon] = await Promise.all([
    spawnConmon({
      program: context.conmon,
      arguments: argumentsOf(context, options, bundle),
      directory: bundle,
      attached: false,
    }),
    writeFile(bundle.config, JSON.stringify(options.spec)),
    rm(exitFileOf(context.layout, options.id), { force: true }),
  ]);
  conmon.release();
  const keeper = settleConmon(conmon, bundle, (pid) => enterConmonCgroup(context.cgroups, options.id, pid));
  try {
    const answer = await within(
      options.deadline ?? createDeadline,
      `creating container ${options.id}`,
      conmon.sync.next(),
    );
    if (answer === undefined || answer.data < 0)
      throw createFailure(
        (await failureOf(bundle, conmon)) ?? (answer?.message.trim() || "conmon ended without a word"),
      );
    context.records.set(options.id, keepRecord(options.spec, bundle, { pid: answer.data, keeper }));
    return answer.data;
  } catch (error) {
    // Before its cgroup can be taken away again it must have been made.
    await endFamily(await keeper);
    throw error;
  } finally {
    conmon.close();
  }
}

/**
 * A runtime that waits for a volume's server would go on when that answers, on a root that is no longer there. What waits
 * in the kernel ends as soon as that lets it go.
 */
async function endFamily(keeper: ProcessIdentity | undefined): Promise<void> {
  if (keeper === undefined) return;
  const family = await descendantsOf(keeper.pid);
  await Promise.all([keeper, ...family].map((identity) => signalProcess(identity, constants.signals.SIGKILL)));
}

type Pair = { readonly pid: number; readonly keeper: Promise<ProcessIdentity | undefined> };

/**
 * The record is not waited for: it is for the next daemon, and should this one die before it is written, the pid files
 * tell the same.
 */
async function keepRecord(spec: OciSpec, bundle: ProcessDirectory, { pid, keeper }: Pair): Promise<ProcessRecord> {
  const [process, conmon] = await Promise.all([identify(pid), keeper]);
  const linux = spec.linux as { readonly cgroupsPath?: string } | undefined;
  const record = { process, conmon, cgroup: linux?.cgroupsPath };
  await writeRecord(bundle, record).catch(() => {});
  return record;
}

function argumentsOf(context: RuntimeContext, options: StartOptions, bundle: ProcessDirectory): string[] {
  return [
    ...commonArguments(context, options.id, bundle),
    ...["--bundle", bundle.path, "--exit-dir", context.layout.exits],
    ...["--log-path", options.logPath === undefined ? "none" : `k8s-file:${options.logPath}`],
    ...(options.logSizeMax === undefined ? [] : ["--log-size-max", `${options.logSizeMax}`]),
    ...(options.tty ? ["--terminal"] : []),
    ...(options.stdin ? ["--stdin"] : []),
    // A terminal is never closed because its viewer left.
    ...(options.keepStdin || options.tty ? ["--leave-stdin-open"] : []),
  ];
}

/** What a container's and an exec's conmon have in common. */
export function commonArguments(context: RuntimeContext, id: string, directory: ProcessDirectory): string[] {
  return [
    ...["--api-version", "1", "--cid", id, "--cuuid", id, "--runtime", context.oci.path],
    ...["--container-pidfile", directory.pidFile, "--conmon-pidfile", directory.conmonPidFile],
    ...["--full-attach", "--no-sync-log", "--log-level", "error"],
    `--runtime-arg=--root=${context.oci.state}`,
    `--runtime-arg=--log=${directory.runtimeLog}`,
    "--runtime-arg=--log-format=json",
  ];
}

/** Why the runtime or conmon gave up, in its own words. */
export async function failureOf(directory: ProcessDirectory, conmon: Conmon): Promise<string | undefined> {
  const log = await readFile(directory.runtimeLog, "utf8").catch(() => "");
  return lastError(log) ?? (conmon.complaint().trim() || undefined);
}
