/**
 * Verbs on a container that runs: signals, pause and resume, limits, the size of its terminal.
 */
import { constants } from "node:fs";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { signalProcess } from "../host/kernel-process.ts";
import { controllerDirectory, readCgroupFile } from "./cgroup.ts";
import { findRecordOf, type RuntimeContext, runningProcess } from "./context.ts";
import { bundleOf, execDirectoryOf } from "./layout.ts";
import { runOciProgram } from "./oci-program.ts";
import { toOciResources } from "./resources.ts";
import type { ResourceUpdate } from "./runtime.ts";

export async function killContainer(
  context: RuntimeContext,
  id: string,
  { signal, all }: { readonly signal: number; readonly all: boolean },
): Promise<void> {
  const process = await runningProcess(context, id);
  if (all) {
    await runOciProgram(context.oci, "kill", "--all", id, `${signal}`);
    return;
  }
  if (!(await signalProcess(process, signal))) throw new EngineError("not_found", `container ${id} is not running`);
}

/** `verb` is the runtime's: pause or resume. */
export async function freezeContainer(context: RuntimeContext, id: string, verb: "pause" | "resume"): Promise<void> {
  await runningProcess(context, id);
  await runOciProgram(context.oci, verb, id);
}

/** Version 1 tells it in `freezer.state`, version 2 in `cgroup.events`. */
export async function isFrozen(context: RuntimeContext, id: string): Promise<boolean> {
  const { cgroup } = (await findRecordOf(context, id)) ?? {};
  if (cgroup === undefined) return false;
  const directory = controllerDirectory(context.cgroups, cgroup, "freezer");
  const state = await readCgroupFile(directory, "freezer.state");
  if (state !== undefined) return state.trim() !== "THAWED";
  return /^frozen 1$/m.test((await readCgroupFile(directory, "cgroup.events")) ?? "");
}

export async function updateContainer(context: RuntimeContext, id: string, limits: ResourceUpdate): Promise<void> {
  await runningProcess(context, id);
  const file = join(bundleOf(context.layout, id).path, "update.json");
  await writeFile(file, JSON.stringify(toOciResources(limits)));
  await runOciProgram(context.oci, "update", "--resources", file, id);
}

const largestSide = 1000;

/** Tells conmon, which holds the terminal. Throws not_found when there is no such conmon. */
export async function resizeTerminal(
  context: RuntimeContext,
  [id, execId]: readonly [string, string | undefined],
  size: { readonly height: number; readonly width: number },
): Promise<void> {
  const { layout } = context;
  const { control } = execId === undefined ? bundleOf(layout, id) : execDirectoryOf(layout, id, execId);
  // conmon takes no more than a thousand rows or columns; a larger window sees the thousand.
  const [height, width] = [size.height, size.width].map((side) => Math.min(Math.max(side, 0), largestSide));
  const fifo = await open(control, constants.O_WRONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    if (systemCode(error) !== "ENOENT" && systemCode(error) !== "ENXIO") throw error;
    throw new EngineError("not_found", `${execId === undefined ? `container ${id}` : `exec ${execId}`} is not running`);
  });
  try {
    await fifo.write(`1 ${height} ${width}\n`);
  } finally {
    await fifo.close();
  }
}
