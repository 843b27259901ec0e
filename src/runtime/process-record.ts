/**
 * What must be known of a container's process after a restart of the daemon: who it and its conmon are, and its cgroup.
 * Written once, when the process exists; it lies on the exec root, so it dies with the boot, as the process does.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";
import { identify, type ProcessIdentity } from "../host/kernel-process.ts";
import type { ProcessDirectory } from "./layout.ts";

export type ProcessRecord = {
  readonly process: ProcessIdentity | undefined;
  readonly conmon: ProcessIdentity | undefined;
  /** Below each hierarchy's root; undefined for an exec session. */
  readonly cgroup: string | undefined;
};

export async function writeRecord(directory: ProcessDirectory, record: ProcessRecord): Promise<void> {
  const temporary = `${directory.record}.new`;
  await writeFile(temporary, JSON.stringify(record));
  await rename(temporary, directory.record);
}

/** The record, or what the pid files tell when the daemon died before it wrote one; undefined when there is nothing. */
export async function findRecord(directory: ProcessDirectory): Promise<ProcessRecord | undefined> {
  const text = await contents(directory.record);
  if (text !== undefined) return JSON.parse(text) as ProcessRecord;
  const conmonPid = await contents(directory.conmonPidFile);
  const pid = await contents(directory.pidFile);
  const config = await contents(directory.config);
  if (conmonPid === undefined && config === undefined) return undefined;
  return {
    process: pid === undefined ? undefined : await ownedBy(directory, Number(pid)),
    conmon: conmonPid === undefined ? undefined : await ownedBy(directory, Number(conmonPid)),
    cgroup: cgroupIn(config),
  };
}

/**
 * A bare pid may have been given out again: it counts only when conmon's command line, its own or its parent's, names
 * this directory.
 */
async function ownedBy(directory: ProcessDirectory, pid: number): Promise<ProcessIdentity | undefined> {
  const found = await identify(pid);
  if (found === undefined) return undefined;
  const status = (await contents(`/proc/${pid}/status`)) ?? "";
  const parent = /^PPid:\s*(\d+)$/m.exec(status)?.[1] ?? "0";
  const lines = await Promise.all([pid, parent].map((each) => contents(`/proc/${each}/cmdline`)));
  return lines.some((line) => line?.split("\0").includes(directory.path)) ? found : undefined;
}

function cgroupIn(config: string | undefined): string | undefined {
  if (config === undefined) return undefined;
  try {
    const { linux } = JSON.parse(config) as { linux?: { cgroupsPath?: unknown } };
    return typeof linux?.cgroupsPath === "string" ? linux.cgroupsPath : undefined;
  } catch {
    return undefined;
  }
}

async function contents(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch((error: unknown) => {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ESRCH") return undefined;
    throw error;
  });
}
