/**
 * `exec`: one more process in a container, with a conmon of its own below the bundle. Its exit code comes back on the sync pipe, and
 * its directory goes when it was told; after a restart of the daemon find-execs.ts finds what was not.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import { identify, type ProcessIdentity, signalProcess } from "../host/kernel-process.ts";
import { openAttachment } from "./attachment.ts";
import { type Conmon, settleConmon, spawnConmon } from "./conmon.ts";
import { enterConmonCgroup } from "./conmon-cgroup.ts";
import { type RuntimeContext, removeDirectory, runningProcess } from "./context.ts";
import { commonArguments, failureOf } from "./create.ts";
import { within } from "./deadline.ts";
import { type ExecDirectory, execDirectoryOf, type ProcessDirectory } from "./layout.ts";
import type { Attachment, ExecOptions, ExitStatus } from "./runtime.ts";
import { execFailure } from "./runtime-words.ts";

const execDeadline = 60_000;
const sigkill = 9;
const lostExitCode = 137;

export type ExecSession = {
  readonly pid: number;
  readonly attachment: Attachment | undefined;
  readonly exited: Promise<ExitStatus>;
};

export async function execIn(context: RuntimeContext, options: ExecOptions, attached: boolean): Promise<ExecSession> {
  await runningProcess(context, options.id);
  const directory = execDirectoryOf(context.layout, options.id, options.execId);
  await makeDirectory(directory, options);
  try {
    return await launch(context, options, { directory, attached });
  } catch (error) {
    await removeDirectory(directory);
    throw error;
  }
}

async function makeDirectory(directory: ExecDirectory, { execId, note }: ExecOptions): Promise<void> {
  await mkdir(dirname(directory.path), { recursive: true, mode: 0o700 });
  await mkdir(directory.path, { mode: 0o700 }).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
    throw new EngineError("conflict", `exec ${execId} was started already`);
  });
  await mkdir(directory.exit);
  if (note !== undefined) await writeFile(directory.note, JSON.stringify(note), { mode: 0o600 });
}

type Running = {
  readonly directory: ProcessDirectory;
  readonly keeper: Promise<ProcessIdentity | undefined>;
  /** undefined when the command has ended already. */
  readonly process: Promise<ProcessIdentity | undefined>;
};
type Place = { readonly directory: ExecDirectory; readonly attached: boolean };

async function launch(
  context: RuntimeContext,
  options: ExecOptions,
  { directory, attached }: Place,
): Promise<ExecSession> {
  const args = argumentsOf(context, options, directory);
  const [conmon] = await Promise.all([
    spawnConmon({
      program: context.conmon,
      arguments: attached ? [...args, "--exec-attach"] : args,
      directory,
      attached,
    }),
    writeFile(directory.config, JSON.stringify(options.process)),
  ]);
  conmon.release();
  const keeper = settleConmon(conmon, directory, (pid) => enterConmonCgroup(context.cgroups, options.id, pid));
  let attachment: Attachment | undefined;
  try {
    if (conmon.attach !== undefined) {
      // conmon may fail before it has a socket: then the sync pipe has the reason.
      const ready = await within(execDeadline, `exec in container ${options.id}`, conmon.attach.next());
      if (ready !== undefined) attachment = await openAttachment(directory.attachSocket, context.stallLimit);
      conmon.release();
    }
    const pid = await pidOf(conmon, options.id, directory);
    const exited = untilExit(context, conmon, { directory, keeper, process: identify(pid) });
    // Whoever waits sees the rejection; nobody has to.
    exited.catch(() => {});
    return { pid, attachment, exited };
  } catch (error) {
    await attachment?.[Symbol.asyncDispose]();
    conmon.close();
    await keeper;
    throw error;
  }
}

async function pidOf(conmon: Conmon, id: string, directory: ProcessDirectory): Promise<number> {
  const answer = await within(execDeadline, `exec in container ${id}`, conmon.sync.next());
  if (answer !== undefined && answer.data >= 0) return answer.data;
  throw execFailure((await failureOf(directory, conmon)) ?? (answer?.message.trim() || "conmon ended without a word"));
}

async function untilExit(
  context: RuntimeContext,
  conmon: Conmon,
  { directory, keeper, process }: Running,
): Promise<ExitStatus> {
  let closed = false;
  const close = (): void => {
    closed = true;
    conmon.close();
  };
  context.open.add(close);
  try {
    const answer = await conmon.sync.next();
    if (closed) throw new EngineError("unavailable", "the runtime was closed while the exec went on");
    // Without a message conmon was killed; its command has no stdio left and is ended.
    if (answer === undefined) await killIfAlive(await process);
    return { code: answer?.data ?? lostExitCode, oomKilled: false, at: Date.now() };
  } finally {
    context.open.delete(close);
    conmon.close();
    await keeper;
    if (!closed) await removeDirectory(directory);
  }
}

async function killIfAlive(process: ProcessIdentity | undefined): Promise<void> {
  if (process !== undefined) await signalProcess(process, sigkill);
}

function argumentsOf(context: RuntimeContext, options: ExecOptions, directory: ExecDirectory): string[] {
  return [
    ...commonArguments(context, options.id, directory),
    ...["--exec", "--exec-process-spec", directory.config, "--bundle", directory.path, "--log-path", "none"],
    ...["--exit-dir", directory.exit],
    ...(options.tty ? ["--terminal", "--leave-stdin-open"] : []),
    ...(options.stdin ? ["--stdin"] : []),
  ];
}
