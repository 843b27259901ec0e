/**
 * Exec sessions of a daemon that is no more. Their conmons went on without it and write the exit code into the session's
 * directory; one that was killed writes nothing, so its command is ended and counts as killed.
 */
import { existsSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { isAlive, signalProcess, waitUntilGone } from "../host/kernel-process.ts";
import { namesIn } from "../host/names-in.ts";
import { type RuntimeContext, removeDirectory } from "./context.ts";
import { ExitWatch } from "./exit-watch.ts";
import { type ExecDirectory, execDirectoryOf, execsOf } from "./layout.ts";
import { findRecord, type ProcessRecord } from "./process-record.ts";
import type { ExitStatus, FoundExec } from "./runtime.ts";

const lostExitCode = 137;
const sigkill = 9;
const killDeadline = 10_000;

/** Every session that has a directory. Each is waited for from now on; its directory goes when its end was told. */
export async function findExecs(context: RuntimeContext, id: string): Promise<readonly FoundExec[]> {
  const names = await namesIn(execsOf(context.layout, id));
  return Promise.all(
    names.map(async (execId) => {
      const directory = execDirectoryOf(context.layout, id, execId);
      const record = await findRecord(directory);
      const exited = untilExit(context, id, { directory, record });
      // Whoever waits sees the rejection; nobody has to.
      exited.catch(() => {});
      return { execId, pid: record?.process?.pid ?? 0, note: await noteOf(directory), exited };
    }),
  );
}

/** A note that was not written whole is none. */
async function noteOf({ note }: ExecDirectory): Promise<unknown> {
  try {
    return JSON.parse(await readFile(note, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError || systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

type Session = { readonly directory: ExecDirectory; readonly record: ProcessRecord | undefined };

async function untilExit(context: RuntimeContext, id: string, session: Session): Promise<ExitStatus> {
  const { directory } = session;
  const watch = new ExitWatch(directory.exit, async () => {
    // The container was removed, and the session with it.
    if (!existsSync(directory.path)) watch.close();
    else await settleLost(id, session);
  });
  const close = (): void => watch.close();
  context.open.add(close);
  try {
    const { code, at } = await watch.wait(id);
    await removeDirectory(directory);
    return { code, at, oomKilled: false };
  } finally {
    context.open.delete(close);
    watch.close();
  }
}

/** Nothing while conmon lives, which will tell. */
async function settleLost(id: string, { directory, record }: Session): Promise<void> {
  if (record?.conmon !== undefined && (await isAlive(record.conmon))) return;
  const file = join(directory.exit, id);
  if (existsSync(file)) return;
  if (record?.process !== undefined) {
    await signalProcess(record.process, sigkill);
    await waitUntilGone(record.process, killDeadline);
  }
  await writeFile(`${file}.new`, `${lostExitCode}`);
  await rename(`${file}.new`, file);
}
