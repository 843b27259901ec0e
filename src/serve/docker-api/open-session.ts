/**
 * Opens sessions: what `POST /containers/{id}/attach` and `POST /exec/{id}/start` join a client to. Used by the upgraded
 * path and by the plain one, so that both refuse the same things with the same words.
 */
import type { IncomingMessage } from "node:http";
import * as v from "valibot";
import { EngineError, errorMessage } from "../../base/errors.ts";
import { looseObject } from "../../base/shape.ts";
import type { ContainerService, Exec } from "../../container/container.ts";
import type { OutputChunk } from "../../runtime/runtime.ts";
import { readOptionalJson } from "./body.ts";
import { parseDetachKeys } from "./detach-keys.ts";
import type { Query } from "./query.ts";
import type { Session } from "./session.ts";

export type SessionServices = Pick<
  ContainerService,
  "get" | "attach" | "logs" | "getExec" | "startExec" | "resizeExec"
>;

export const execStartBody = looseObject({
  Detach: v.nullish(v.boolean()),
  Tty: v.nullish(v.boolean()),
  ConsoleSize: v.nullish(v.tuple([v.number(), v.number()])),
});

/** `detached`: the process runs on its own and there is nothing to join. */
export type Opened = Session | "detached";

/** Attaches to a container as the query asks. */
export async function openAttach(containers: SessionServices, name: string, query: Query): Promise<Session> {
  const container = containers.get(name);
  const detachKeys = parseDetachKeys(query.optional("detachKeys"));
  if (container.state.status === "paused")
    throw new EngineError("conflict", `container ${name} is paused, unpause the container before attach`);
  if (container.state.status === "restarting")
    throw new EngineError("conflict", `container ${name} is restarting, wait until the container is running`);
  const stream = query.flag("stream");
  const asked = { stdin: query.flag("stdin"), stdout: query.flag("stdout"), stderr: query.flag("stderr") };
  const stdin = stream && asked.stdin && container.config.OpenStdin === true;
  const log = query.flag("logs") ? logSoFar(containers, name, asked) : undefined;
  return {
    attachment: stream ? await containers.attach(name, { ...asked, stdin }) : undefined,
    tty: container.config.Tty === true,
    stdin,
    endsStdin: container.config.StdinOnce === true,
    stdout: asked.stdout,
    stderr: asked.stderr,
    before: log,
    detachKeys,
  };
}

function logSoFar(
  containers: SessionServices,
  name: string,
  streams: { readonly stdout: boolean; readonly stderr: boolean },
): AsyncIterable<OutputChunk> {
  const everything = { tail: undefined, since: undefined, until: undefined, timestamps: false, follow: false };
  return containers.logs(name, { ...streams, ...everything });
}

/** Starts an exec session as its body asks. */
export async function openExec(containers: SessionServices, id: string, request: IncomingMessage): Promise<Opened> {
  const body = (await readOptionalJson(request, execStartBody)) ?? {};
  const exec = containers.getExec(id);
  const detachKeys = parseDetachKeys(exec.detachKeys);
  const tty = body.Tty ?? false;
  if (body.Detach === true) {
    await containers.startExec(id, { attached: false, tty });
    return "detached";
  }
  const streams = { stdin: exec.attachStdin, stdout: exec.attachStdout, stderr: exec.attachStderr };
  try {
    const attachment = await containers.startExec(id, { attached: true, tty });
    if (tty && body.ConsoleSize) await resizeAtStart(containers, id, body.ConsoleSize);
    return { attachment, tty, ...streams, endsStdin: true, before: undefined, detachKeys };
  } catch (error) {
    if (!ranAndFailed(containers, id)) throw error;
    const before = said(`${errorMessage(error)}\r\n`);
    const nothing = { attachment: undefined, stdin: false, endsStdin: false };
    return { ...nothing, tty, stdout: true, stderr: true, before, detachKeys };
  }
}

async function resizeAtStart(
  containers: SessionServices,
  id: string,
  [height, width]: readonly [number, number],
): Promise<void> {
  if (height > 0 && width > 0) await containers.resizeExec(id, { height, width });
}

/** The program could not be run: the session carries why, and the exec its code (126, 127), as clients expect. */
function ranAndFailed(containers: SessionServices, id: string): boolean {
  let exec: Exec;
  try {
    exec = containers.getExec(id);
  } catch {
    return false;
  }
  return !exec.running && exec.exitCode !== undefined && exec.exitCode !== 0;
}

async function* said(text: string): AsyncGenerator<OutputChunk> {
  yield { stream: "stdout", data: Buffer.from(text) };
}
