/**
 * Volumes as a Docker volume plugin, protocol v1: `POST /VolumeDriver.<Method>` with JSON over a unix socket, which a
 * stock dockerd and podman call. A failure is answered with a status that is not 200 and `{"Err": words}`: podman reads
 * `Err` only then, and dockerd reads it in both cases.
 */

import { chmod } from "node:fs/promises";
import type { Server } from "node:http";
import type { Socket } from "node:net";
import fastify, { type FastifyError, type FastifyInstance } from "fastify";
import { EngineError, errorCode, httpStatus } from "../../base/errors.ts";
import { createServer } from "../../base/node-http.ts";
import type { Shape } from "../../base/shape.ts";
import { peerOf } from "../../host/peer.ts";
import type { ServedVolume, ServedVolumes } from "../../volume/served.ts";
import { listenAt } from "../docker-api/listen.ts";
import { noSchemas } from "../no-schemas.ts";
import { anyShape, bodyLimit, createShape, decodeBody, nameShape, useShape } from "./requests.ts";

export type VolumePluginOptions = {
  /** An absolute path; engines find it in /run/docker/plugins by its name. */
  readonly socket: string;
  /** Told of failures that are ours, for the log. */
  readonly onFailure: (error: unknown, method: string) => void;
};

const mediaType = "application/vnd.docker.plugins.v1.2+json";
/** Milliseconds for a whole request to come in. */
const requestTimeout = 30_000;
/** Of an engine that has gone mad; the others wait in the socket's queue. */
const connectionLimit = 1024;
/** Milliseconds for requests to end when the server stops. */
const grace = 5000;

/** Listens when it resolves; only root may connect. Disposing stops accepting, ends requests and removes the socket. */
export async function serveVolumePlugin(
  volumes: ServedVolumes,
  options: VolumePluginOptions,
): Promise<AsyncDisposable> {
  const app = createApp(options);
  addMethods(app, volumes);
  await app.ready();
  const server = createServer({ requestTimeout, keepAliveTimeout: 0 }, (request, response) =>
    app.routing(request, response),
  );
  server.maxConnections = connectionLimit;
  server.on("clientError", (_error, socket) => socket.destroy());
  await listenAt(server, { kind: "unix", path: options.socket });
  await chmod(options.socket, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      await closeServer(server);
      await app.close();
    },
  };
}

function createApp({ onFailure }: VolumePluginOptions): FastifyInstance {
  const app = fastify({ logger: false, exposeHeadRoutes: false, schemaController: noSchemas });
  // engines send JSON without saying so
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "string", bodyLimit }, (_request, body, done) => done(null, body));
  app.setNotFoundHandler((_request, reply) =>
    reply
      .code(404)
      .type(mediaType)
      .send(answer({ Err: "no such method" })),
  );
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const status = statusOf(error);
    const known = error instanceof EngineError || status < 500;
    if (httpStatus[errorCode(error)] >= 500 && status === 500) onFailure(error, request.url.slice(1));
    return reply
      .code(status)
      .type(mediaType)
      .send(answer({ Err: known ? error.message : "it failed; the plugin's log tells why" }));
  });
  return app;
}

/** Requests that make no sense are the caller's; every other failure is told as the plugin's, whatever its reason. */
function statusOf(error: FastifyError): number {
  if (error instanceof EngineError) return errorCode(error) === "invalid_argument" ? 400 : 500;
  return error.code?.startsWith("FST_") && error.statusCode !== undefined ? error.statusCode : 500;
}

const answer = (value: object): string => `${JSON.stringify(value)}\n`;

function addMethods(app: FastifyInstance, volumes: ServedVolumes): void {
  const method = <T>(path: string, shape: Shape<T>, work: (request: T, socket: Socket) => Promise<object>): void => {
    app.post(`/${path}`, async (request, reply) => {
      const value = await work(decodeBody(shape, typeof request.body === "string" ? request.body : ""), request.socket);
      return reply.type(mediaType).send(answer({ ...value, Err: "" }));
    });
  };
  method("Plugin.Activate", anyShape, async () => ({ Implements: ["VolumeDriver"] }));
  method("VolumeDriver.Capabilities", anyShape, async () => ({ Capabilities: { Scope: volumes.scope } }));
  method("VolumeDriver.Create", createShape, async ({ Name, Opts }) => done(volumes.create(Name, Opts ?? {})));
  method("VolumeDriver.Remove", nameShape, async ({ Name }) => done(volumes.remove(Name)));
  method("VolumeDriver.Mount", useShape, async ({ Name, ID }, socket) => ({
    Mountpoint: await volumes.mount(Name, ID, await peerOf(socket)),
  }));
  method("VolumeDriver.Unmount", useShape, async ({ Name, ID }) => done(volumes.unmount(Name, ID)));
  method("VolumeDriver.Path", nameShape, async ({ Name }) => ({ Mountpoint: (await volumes.get(Name)).mountpoint }));
  method("VolumeDriver.Get", nameShape, async ({ Name }) => ({ Volume: described(await volumes.get(Name)) }));
  method("VolumeDriver.List", anyShape, async () => ({ Volumes: (await volumes.list()).map(described) }));
}

async function done(work: Promise<void>): Promise<object> {
  await work;
  return {};
}

const described = ({ name, mountpoint, createdAt, driver }: ServedVolume): object => ({
  Name: name,
  Mountpoint: mountpoint,
  CreatedAt: createdAt,
  Status: { driver },
});

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const sweeper = setInterval(() => server.closeIdleConnections(), 10);
  const timer = setTimeout(() => server.closeAllConnections(), grace);
  await closed;
  clearInterval(sweeper);
  clearTimeout(timer);
}
