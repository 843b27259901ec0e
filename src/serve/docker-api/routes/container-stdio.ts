/** `/containers/{id}/attach` and `/exec/{id}/start` without an upgrade (output only), `/logs`, and exec's records. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import * as v from "valibot";
import { EngineError } from "../../../base/errors.ts";
import { looseObject, textList, words } from "../../../base/shape.ts";
import type { ContainerService, LogOptions } from "../../../container/container.ts";
import type { OutputChunk } from "../../../runtime/runtime.ts";
import { isOlder, versionOf } from "../api-version.ts";
import { readJson } from "../body.ts";
import { execJson } from "../exec-json.ts";
import { openAttach, openExec, type SessionServices } from "../open-session.ts";
import { pathPart, type Query, queryOf } from "../query.ts";
import { commonHeaders, refuse, sendEmpty, sendJson } from "../respond.ts";
import { runOutput, type Session } from "../session.ts";
import { frame, streamType } from "../stdcopy.ts";
import { clientSignal, sendBytes } from "../stream.ts";

export type ContainerStdioServices = {
  readonly containers: SessionServices & Pick<ContainerService, "createExec">;
  readonly stopping: AbortSignal;
};

export function containerStdioRoutes(app: FastifyInstance, { containers, stopping }: ContainerStdioServices): void {
  app.post("/containers/:id/attach", async (request, reply) => {
    const session = await openAttach(containers, pathPart(request, "id"), queryOf(request));
    await sendSession(session, request, reply);
  });
  app.get("/containers/:id/attach/ws", async () =>
    refuse("attach over a websocket is not supported: use POST /containers/{id}/attach"),
  );
  app.get("/containers/:id/logs", (request, reply) => logs(containers, stopping, request, reply));
  app.post("/containers/:id/exec", (request, reply) => createExec(containers, request, reply));
  app.post("/exec/:id/start", async (request, reply) => {
    const opened = await openExec(containers, pathPart(request, "id"), request.raw);
    if (opened === "detached") sendEmpty(reply, 200);
    else await sendSession(opened, request, reply);
  });
  app.get("/exec/:id/json", async (request, reply) =>
    sendJson(reply, 200, execJson(containers.getExec(pathPart(request, "id")))),
  );
}

const multiplexedKnown = (request: FastifyRequest): boolean => !isOlder(versionOf(request.raw), "1.42");

/** Raw bytes up to the end of the connection, as dockerd gives them to a client that asked for no upgrade. */
async function sendSession(session: Session, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (session.stdin) {
    await session.attachment?.[Symbol.asyncDispose]();
    throw new EngineError("invalid_argument", "stdin needs the headers Connection: Upgrade and Upgrade: tcp");
  }
  reply.hijack();
  const type = streamType(session.tty, multiplexedKnown(request));
  reply.raw.useChunkedEncodingByDefault = false;
  reply.raw.writeHead(200, { ...commonHeaders, "Content-Type": type, Connection: "close" });
  reply.raw.flushHeaders();
  try {
    await runOutput(reply.raw, session);
    reply.raw.end();
  } catch {
    reply.raw.destroy();
  }
}

function logOptions(query: Query, signal: AbortSignal): LogOptions {
  const stdout = query.flag("stdout");
  const stderr = query.flag("stderr");
  if (!stdout && !stderr)
    throw new EngineError("invalid_argument", "Bad parameters: you must choose at least one stream");
  if (query.flag("details")) refuse("log details are not kept: leave --details out");
  const tail = query.optional("tail");
  const lines = tail === undefined || tail === "all" ? undefined : query.integer("tail");
  return {
    follow: query.flag("follow"),
    stdout,
    stderr,
    tail: lines !== undefined && lines < 0 ? undefined : lines,
    since: query.time("since"),
    until: query.time("until"),
    timestamps: query.flag("timestamps"),
    signal,
  };
}

async function logs(
  containers: SessionServices,
  stopping: AbortSignal,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const container = containers.get(pathPart(request, "id"));
  const signal = clientSignal(reply, stopping);
  const options = logOptions(queryOf(request), signal);
  const tty = container.config.Tty === true;
  const headers = { "Content-Type": streamType(tty, multiplexedKnown(request)) };
  const lines = containers.logs(container.id, options);
  await sendBytes(reply, tty ? plain(lines) : framed(lines), { signal, headers, early: options.follow });
}

async function* framed(lines: AsyncIterable<OutputChunk>): AsyncGenerator<Uint8Array> {
  for await (const { stream, data } of lines) yield frame(stream, data);
}

async function* plain(lines: AsyncIterable<OutputChunk>): AsyncGenerator<Uint8Array> {
  for await (const { data } of lines) yield data;
}

const texts = v.nullish(textList);
const execBody = looseObject({
  Cmd: v.nullish(words),
  Env: texts,
  User: v.nullish(v.string()),
  WorkingDir: v.nullish(v.string()),
  Tty: v.nullish(v.boolean()),
  AttachStdin: v.nullish(v.boolean()),
  AttachStdout: v.nullish(v.boolean()),
  AttachStderr: v.nullish(v.boolean()),
  Privileged: v.nullish(v.boolean()),
  DetachKeys: v.nullish(v.string()),
});

async function createExec(
  containers: ContainerStdioServices["containers"],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const body = await readJson(request.raw, execBody);
  if (body.Cmd === null || body.Cmd === undefined || body.Cmd.length === 0)
    throw new EngineError("invalid_argument", "No exec command specified");
  const id = await containers.createExec(pathPart(request, "id"), {
    command: body.Cmd,
    env: body.Env ?? [],
    user: body.User || undefined,
    workingDir: body.WorkingDir || undefined,
    tty: body.Tty ?? false,
    attachStdin: body.AttachStdin ?? false,
    attachStdout: body.AttachStdout ?? false,
    attachStderr: body.AttachStderr ?? false,
    privileged: body.Privileged ?? false,
    detachKeys: body.DetachKeys || undefined,
  });
  sendJson(reply, 201, { Id: id });
}
