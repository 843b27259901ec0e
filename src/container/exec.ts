/** `exec`: one more process in a running container. A session is made first and started by whoever attaches to it. */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { buildProcess } from "../runtime/process-spec.ts";
import type { Attachment, ExitStatus } from "../runtime/runtime.ts";
import { resolveUser } from "../runtime/user.ts";
import { checkWords } from "./check-text.ts";
import type { Exec, NewExec } from "./container.ts";
import { type Context, emit } from "./context.ts";
import type { Entry, Run } from "./entry.ts";
import { environmentOf, mergeEnvironment, rightsOf } from "./spec-input.ts";
import { startFailure } from "./start-error.ts";

const conflict = (message: string): EngineError => new EngineError("conflict", message);

function runFor(entry: Entry): Run {
  if (entry.phase.kind === "restarting")
    throw conflict(`Container ${entry.id} is restarting, wait until the container is running`);
  const run = entry.runOr(`container ${entry.id} is not running`);
  if (run.paused) throw conflict(`Container ${entry.id} is paused, unpause the container before exec`);
  return run;
}

const wordsOf = (exec: NewExec): string => exec.command.join(" ");

/** Returns the session's id. Throws conflict unless the container runs. */
export async function createExec(context: Context, entry: Entry, request: NewExec): Promise<string> {
  runFor(entry);
  if (request.command.length === 0) throw new EngineError("invalid_argument", "No exec command specified");
  const { command, env, workingDir = "", user = "" } = request;
  checkWords({ command, env, workingDir, user });
  const id = randomBytes(32).toString("hex");
  context.execs.set({ ...request, id, containerId: entry.id, running: false, exitCode: undefined, pid: 0 });
  emit(context, entry, `exec_create: ${wordsOf(request)}`, { execID: id });
  return id;
}

/** Throws conflict for a session that was started before; exit codes of what cannot run are 126 and 127. */
export async function startExec(
  context: Context,
  execId: string,
  options: { readonly attached: boolean; readonly tty: boolean },
): Promise<Attachment | undefined> {
  const exec = context.execs.get(execId);
  const entry = context.entries.get(exec.containerId);
  if (exec.running) throw conflict(`Error: Exec command ${execId} is already running`);
  if (exec.exitCode !== undefined) throw conflict(`Error: Exec command ${execId} has already run`);
  const run = runFor(entry);
  context.execs.set({ ...exec, running: true });
  emit(context, entry, `exec_start: ${wordsOf(exec)}`, { execID: execId });
  try {
    const process = await processOf(entry, run, { ...exec, tty: exec.tty || options.tty });
    const { tty, attachStdin: stdin } = exec;
    const request = { id: entry.id, execId, process, tty: tty || options.tty, stdin, note: noteOf(exec) };
    const started = await context.runtime.exec(request, options.attached);
    context.execs.set({ ...exec, running: true, pid: started.pid });
    const ended = watch(context, entry, { execId, exited: started.exited });
    return started.attachment === undefined ? undefined : onlyAsked(started.attachment, { exec, ended });
  } catch (cause) {
    const failure = startFailure(cause);
    context.execs.end(execId, failure.exitCode === 128 ? 126 : failure.exitCode);
    emit(context, entry, "exec_die", { execID: execId, exitCode: String(failure.exitCode) });
    throw failure.error;
  }
}

/** What a later engine must know of a session that runs. */
const noteShape = v.object({
  command: v.array(v.string()),
  env: v.array(v.string()),
  user: v.optional(v.string()),
  workingDir: v.optional(v.string()),
  tty: v.boolean(),
  attachStdin: v.boolean(),
  attachStdout: v.boolean(),
  attachStderr: v.boolean(),
  privileged: v.boolean(),
  detachKeys: v.optional(v.string()),
});

function noteOf(exec: Exec): NewExec {
  const { id: _id, containerId: _container, running: _running, exitCode: _code, pid: _pid, ...asked } = exec;
  return asked;
}

/** Sessions that outlived an engine, or ended without one: they are known again, and their exit codes are told. */
export async function restoreExecs(context: Context, entry: Entry): Promise<void> {
  for (const { execId, pid, note, exited } of await context.runtime.execs(entry.id)) {
    const asked = v.safeParse(noteShape, note);
    if (!asked.success) continue;
    const { user, workingDir, detachKeys, ...rest } = asked.output;
    const session = { ...rest, user, workingDir, detachKeys, id: execId, containerId: entry.id };
    context.execs.set({ ...session, running: true, exitCode: undefined, pid });
    void watch(context, entry, { execId, exited });
  }
}

async function processOf(entry: Entry, run: Run, exec: Exec): Promise<Readonly<Record<string, unknown>>> {
  const { config, hostConfig } = entry.record;
  const user = await resolveUser(run.rootfs, exec.user || config.User || "", hostConfig.GroupAdd ?? []);
  const rights = rightsOf(hostConfig);
  return buildProcess({
    args: exec.command,
    env: mergeEnvironment(environmentOf(entry.record, exec.tty, user.home), exec.env),
    cwd: exec.workingDir || config.WorkingDir || "",
    user,
    tty: exec.tty,
    ...rights,
    privileged: rights.privileged || exec.privileged,
  });
}

type Session = { readonly execId: string; readonly exited: Promise<ExitStatus> };

/** Resolves when the exit code is recorded. */
function watch(context: Context, entry: Entry, { execId, exited }: Session): Promise<void> {
  const end = (code: number): void => {
    context.execs.end(execId, code);
    emit(context, entry, "exec_die", { execID: execId, exitCode: String(code) });
  };
  return exited.then(
    ({ code }) => end(code),
    () => (context.closing.aborted ? undefined : end(255)),
  );
}

type Asked = { readonly exec: NewExec; readonly ended: Promise<void> };

/** What the client did not ask for does not reach it. Output ends after the exit code is recorded: clients ask for it next. */
function onlyAsked(real: Attachment, { exec, ended }: Asked): Attachment {
  const asked = { stdout: exec.attachStdout || exec.tty, stderr: exec.attachStderr };
  return {
    output: (async function* () {
      for await (const chunk of real.output) if (asked[chunk.stream]) yield chunk;
      await ended;
      await real[Symbol.asyncDispose]();
    })(),
    write: real.write,
    closeStdin: real.closeStdin,
    [Symbol.asyncDispose]: () => real[Symbol.asyncDispose](),
  };
}
