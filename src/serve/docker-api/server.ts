/**
 * The Docker Engine API over HTTP: routes on fastify, one HTTP server for each address, and sessions (attach, exec) that
 * leave HTTP. A failure of a request is that request's answer; it never takes the server down.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import fastify, { type FastifyError, type FastifyInstance } from "fastify";
import { EngineError, errorCode } from "../../base/errors.ts";
import { createServer } from "../../base/node-http.ts";
import { noSchemas } from "../no-schemas.ts";
import { checkVersion, stripVersion, versionOf } from "./api-version.ts";
import { type Address, formatAddress, listenAt } from "./listen.ts";
import { describeError, sendError } from "./respond.ts";
import { absentRoutes } from "./routes/absent.ts";
import { buildRoutes } from "./routes/build.ts";
import { containerFileRoutes } from "./routes/container-files.ts";
import { containerLifeRoutes } from "./routes/container-life.ts";
import { containerStdioRoutes } from "./routes/container-stdio.ts";
import { containerRoutes } from "./routes/containers.ts";
import { eventRoutes } from "./routes/events.ts";
import { forkRoutes } from "./routes/fork.ts";
import { imageArchiveRoutes } from "./routes/image-archives.ts";
import { imageRoutes } from "./routes/images.ts";
import { networkRoutes } from "./routes/networks.ts";
import { pingRoutes } from "./routes/ping.ts";
import { statsRoutes } from "./routes/stats.ts";
import { systemRoutes } from "./routes/system.ts";
import { volumeDriverRoutes } from "./routes/volume-drivers.ts";
import { volumeVerbRoutes } from "./routes/volume-verbs.ts";
import { volumeRoutes } from "./routes/volumes.ts";
import type { DockerApiServices } from "./services.ts";
import { becomesSession, serveSessions } from "./upgrade.ts";

export type DockerApiOptions = {
  /** Told of failures that are the engine's own (status 500), for the log. */
  readonly onFailure?: (error: unknown, request: string) => void;
};

export type DockerApi = AsyncDisposable & {
  /** Starts listening; more than one address may be given, one after the other. Resolves to where it listens. */
  readonly listen: (address: Address) => Promise<string>;
};

/** Milliseconds that requests get to finish once the server stops. */
const grace = 1000;

/** Builds the server; it listens only when told to. Disposing stops accepting, ends streams, and resolves when all is closed. */
export async function createDockerApi(services: DockerApiServices, options: DockerApiOptions = {}): Promise<DockerApi> {
  const stopping = new AbortController();
  const app = await createRoutes({ ...services, stopping: stopping.signal }, options);
  const servers: Server[] = [];
  const sessions = new Set<Duplex>();
  const onSession = (connection: Duplex): void => {
    sessions.add(connection);
    connection.once("close", () => sessions.delete(connection));
  };
  const create = (): Server => {
    const server = createHttpServer(app);
    serveSessions(server, services.containers, onSession);
    return server;
  };
  return {
    listen: async (address) => {
      const server = create();
      const where = await listenAt(server, address);
      servers.push(server);
      return formatAddress(where);
    },
    [Symbol.asyncDispose]: async () => {
      stopping.abort(new EngineError("unavailable", "the daemon is stopping"));
      for (const session of sessions) session.destroy();
      await Promise.all(servers.splice(0).map(closeServer));
      await app.close();
    },
  };
}

function createHttpServer(app: FastifyInstance): Server {
  const server = createServer(
    {
      shouldUpgradeCallback: becomesSession,
      // an upload or a wait may take as long as it takes; idle connections are the client's to close
      requestTimeout: 0,
      keepAliveTimeout: 0,
      maxHeaderSize: 1024 * 1024,
    },
    (request, response) => {
      response.once("finish", () => dropRest(request));
      app.routing(request, response);
    },
  );
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

/** Many clients send all of a body before they look at the answer, and wait for ever where nobody reads what they send. */
function dropRest(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return;
  // Whoever gave up in the middle may still be listening: nothing flows then.
  request.removeAllListeners("readable");
  setImmediate(() => request.resume());
}

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // a connection becomes idle when its stream has ended, which may be a moment after the abort
  const sweeper = setInterval(() => server.closeIdleConnections(), 10);
  const timer = setTimeout(() => server.closeAllConnections(), grace);
  await closed;
  clearInterval(sweeper);
  clearTimeout(timer);
}

/** The routes as a fastify instance that never listens by itself. */
async function createRoutes(
  services: DockerApiServices & { readonly stopping: AbortSignal },
  { onFailure }: DockerApiOptions,
): Promise<FastifyInstance> {
  const app = fastify({
    logger: false,
    exposeHeadRoutes: false,
    rewriteUrl: stripVersion,
    routerOptions: { maxParamLength: 4096 },
    schemaController: noSchemas,
  });
  // bodies stay streams: handlers that want JSON read it themselves, with dockerd's words for what is wrong
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
  app.addHook("onRequest", (request, _reply, done) => {
    checkVersion(versionOf(request.raw));
    done();
  });
  app.setNotFoundHandler((_request, reply) => {
    reply.hijack();
    sendError(reply.raw, new EngineError("not_found", "page not found"));
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    reply.hijack();
    const shown = clientLeft(error, request.raw) ?? fromFastify(error, request.headers["content-type"] ?? "");
    if (describeError(shown).status === 500) onFailure?.(shown, `${request.method} ${request.url.split("?", 1)[0]}`);
    sendError(reply.raw, shown);
  });
  addRoutes(app, services);
  await app.ready();
  return app;
}

/** Whatever failed because the body broke off is the client's doing. */
function clientLeft(cause: FastifyError, { destroyed, complete }: IncomingMessage): EngineError | undefined {
  if (!destroyed || complete || errorCode(cause) !== "internal") return undefined;
  return new EngineError("canceled", "the client went away before the whole body had come", { cause });
}

/** fastify's own refusals in dockerd's words. */
function fromFastify(error: FastifyError, contentType: string): unknown {
  if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
    return new EngineError(
      "invalid_argument",
      `malformed Content-Type header (${contentType}): mime: invalid media type`,
    );
  if (error.code?.startsWith("FST_") && (error.statusCode ?? 500) < 500)
    return new EngineError("invalid_argument", error.message, { cause: error });
  return error;
}

function addRoutes(app: FastifyInstance, services: DockerApiServices & { readonly stopping: AbortSignal }): void {
  pingRoutes(app);
  systemRoutes(app, services);
  eventRoutes(app, services);
  imageRoutes(app, services);
  imageArchiveRoutes(app, services);
  buildRoutes(app, services);
  containerRoutes(app, services);
  forkRoutes(app, services);
  containerLifeRoutes(app, services);
  containerStdioRoutes(app, services);
  containerFileRoutes(app, services);
  statsRoutes(app, services);
  volumeRoutes(app, services);
  volumeDriverRoutes(app, services);
  volumeVerbRoutes(app, services);
  networkRoutes(app, services);
  absentRoutes(app);
}
