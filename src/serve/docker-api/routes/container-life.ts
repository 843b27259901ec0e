/** `/containers/{id}`: start, stop, restart, kill, pause, unpause, wait, resize, stats. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import type { ContainerService, WaitCondition } from "../../../container/container.ts";
import type { NetworkStore } from "../../../network/store.ts";
import { isOlder, versionOf } from "../api-version.ts";
import { pathPart, type Query, queryOf } from "../query.ts";
import { commonHeaders, describeError, sendEmpty, sendJson } from "../respond.ts";

export type ContainerLifeServices = {
  readonly containers: Pick<
    ContainerService,
    "get" | "start" | "stop" | "restart" | "kill" | "pause" | "unpause" | "wait" | "resize" | "resizeExec"
  >;
  readonly networks: Pick<NetworkStore, "get">;
  readonly stopping: AbortSignal;
};

function stopOptions(query: Query): { readonly signal: string | undefined; readonly timeout: number | undefined } {
  return { signal: query.optional("signal"), timeout: query.integer("t") };
}

/** The size of a terminal; both must be given. */
function terminalSize(query: Query): { readonly height: number; readonly width: number } {
  const height = query.integer("h");
  const width = query.integer("w");
  if (height === undefined || width === undefined)
    throw new EngineError("invalid_argument", "a terminal's size needs both h and w");
  return { height, width };
}

/** Network modes that name no network of a person's. */
const ownModes = new Set(["", "default", "bridge", "host", "none"]);

/** As dockerd does, a network that is gone is found out at start: a 404 at create would mean the image. */
function checkNetwork({ containers, networks }: ContainerLifeServices, name: string): void {
  const mode = containers.get(name).hostConfig.NetworkMode ?? "";
  if (!ownModes.has(mode) && !mode.startsWith("container:")) networks.get(mode);
}

export function containerLifeRoutes(app: FastifyInstance, services: ContainerLifeServices): void {
  const { containers } = services;
  app.post("/containers/:id/start", async (request, reply) => {
    if (queryOf(request).has("checkpoint"))
      throw new EngineError("unsupported", "checkpoints are not supported: start the container without one");
    checkNetwork(services, pathPart(request, "id"));
    const started = await containers.start(pathPart(request, "id"));
    sendEmpty(reply, started ? 204 : 304);
  });
  app.post("/containers/:id/stop", async (request, reply) => {
    const stopped = await containers.stop(pathPart(request, "id"), stopOptions(queryOf(request)));
    sendEmpty(reply, stopped ? 204 : 304);
  });
  app.post("/containers/:id/restart", async (request, reply) => {
    await containers.restart(pathPart(request, "id"), stopOptions(queryOf(request)));
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/kill", async (request, reply) => {
    await containers.kill(pathPart(request, "id"), queryOf(request).optional("signal"));
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/pause", async (request, reply) => {
    await containers.pause(pathPart(request, "id"));
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/unpause", async (request, reply) => {
    await containers.unpause(pathPart(request, "id"));
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/resize", async (request, reply) => {
    await containers.resize(pathPart(request, "id"), terminalSize(queryOf(request)));
    sendEmpty(reply, 200);
  });
  app.post("/exec/:id/resize", async (request, reply) => {
    await containers.resizeExec(pathPart(request, "id"), terminalSize(queryOf(request)));
    sendEmpty(reply, 200);
  });
  app.post("/containers/:id/wait", (request, reply) => wait(services, request, reply));
}

const conditions: readonly string[] = ["not-running", "next-exit", "removed"] satisfies readonly WaitCondition[];

function conditionOf(query: Query): WaitCondition {
  const text = query.optional("condition") ?? "not-running";
  if (!conditions.includes(text))
    throw new EngineError("invalid_argument", `invalid condition: ${JSON.stringify(text)}`);
  return text as WaitCondition;
}

/**
 * The headers go out as soon as the wait is registered: `docker run` reads them before it starts the container, so that
 * it misses no exit.
 */
async function wait(
  { containers, stopping }: ContainerLifeServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const name = pathPart(request, "id");
  const condition = conditionOf(queryOf(request));
  containers.get(name);
  const exit = containers.wait(name, condition);
  if (isOlder(versionOf(request.raw), "1.30")) {
    sendJson(reply, 200, { StatusCode: (await exit).exitCode });
    return;
  }
  reply.hijack();
  reply.raw.writeHead(200, { ...commonHeaders, "Content-Type": "application/json" });
  reply.raw.flushHeaders();
  const cutOff = (): void => void reply.raw.destroy();
  stopping.addEventListener("abort", cutOff);
  const body = `${JSON.stringify(await waitedJson(exit))}\n`;
  stopping.removeEventListener("abort", cutOff);
  reply.raw.end(body);
}

async function waitedJson(exit: ReturnType<ContainerService["wait"]>): Promise<object> {
  try {
    const { exitCode, error } = await exit;
    return { StatusCode: exitCode, ...(error ? { Error: { Message: error } } : {}) };
  } catch (error) {
    return { StatusCode: 125, Error: { Message: describeError(error).message } };
  }
}
