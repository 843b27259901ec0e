/** `/containers`: list, create, inspect, sizes, changes, processes, rename, update, remove, prune; `/commit`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import { parseReference } from "../../../base/reference.ts";
import type { ContainerService } from "../../../container/container.ts";
import type { Image, ImageStore } from "../../../image/store.ts";
import type { LayerStore } from "../../../layer/store.ts";
import { readJson, readOptionalJson } from "../body.ts";
import { configBody, createBody, hostConfigOf, newContainer, runConfig, updateBody } from "../container-body.ts";
import { inspectJson, summaryJson } from "../container-json.ts";
import { pathPart, type Query, queryOf } from "../query.ts";
import { sendEmpty, sendJson } from "../respond.ts";

export type ContainerServices = {
  readonly containers: Pick<
    ContainerService,
    "list" | "size" | "create" | "get" | "remove" | "prune" | "rename" | "update" | "changes" | "top" | "commit"
  >;
  readonly images: Pick<ImageStore, "find">;
  readonly layers: Pick<LayerStore, "driverName" | "describeWritable">;
};

export function containerRoutes(app: FastifyInstance, services: ContainerServices): void {
  const { containers } = services;
  app.get("/containers/json", (request, reply) => list(services, request, reply));
  app.post("/containers/create", (request, reply) => create(services, request, reply));
  app.get("/containers/:id/json", (request, reply) => inspect(services, request, reply));
  app.post("/containers/prune", async (request, reply) => {
    const { removed, reclaimed } = await containers.prune(queryOf(request).filters());
    sendJson(reply, 200, { ContainersDeleted: removed.length > 0 ? removed : null, SpaceReclaimed: reclaimed });
  });
  app.delete("/containers/:id", async (request, reply) => {
    const query = queryOf(request);
    if (query.flag("link")) throw new EngineError("unsupported", "links are not supported: there is none to remove");
    await containers.remove(pathPart(request, "id"), { force: query.flag("force"), volumes: query.flag("v") });
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/rename", async (request, reply) => {
    await containers.rename(pathPart(request, "id"), queryOf(request).text("name"));
    sendEmpty(reply, 204);
  });
  app.post("/containers/:id/update", async (request, reply) => {
    const body = await readJson(request.raw, updateBody);
    const warnings = await containers.update(pathPart(request, "id"), hostConfigOf(body));
    sendJson(reply, 200, { Warnings: warnings.length > 0 ? warnings : null });
  });
  app.get("/containers/:id/changes", async (request, reply) => {
    const changes = await containers.changes(pathPart(request, "id"));
    sendJson(reply, 200, changes.length > 0 ? changes.map(({ path, kind }) => ({ Path: path, Kind: kind })) : null);
  });
  app.get("/containers/:id/top", async (request, reply) => {
    const words = queryOf(request).optional("ps_args") ?? "-ef";
    const { titles, processes } = await containers.top(pathPart(request, "id"), words.trim().split(/\s+/));
    sendJson(reply, 200, { Titles: titles, Processes: processes });
  });
  app.post("/commit", (request, reply) => commit(services, request, reply));
}

async function list(
  { containers, images }: ContainerServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const query = queryOf(request);
  const limit = query.integer("limit") ?? 0;
  const options = { all: query.flag("all"), limit: limit > 0 ? limit : undefined, filters: query.filters() };
  const found = containers.list(options);
  const sizes = query.flag("size") ? await Promise.all(found.map(({ id }) => containers.size(id))) : [];
  const now = Date.now();
  const findImage = (name: string): Image | undefined => images.find(name);
  sendJson(
    reply,
    200,
    found.map((container, index) => summaryJson(container, { size: sizes[index], now, findImage })),
  );
}

async function create({ containers }: ContainerServices, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const body = await readOptionalJson(request.raw, createBody);
  if (body === undefined)
    throw new EngineError("invalid_argument", "config cannot be empty in order to create a container");
  const platform = queryOf(request).optional("platform");
  if (platform !== undefined) checkPlatform(platform);
  const { id, warnings } = await containers.create(newContainer(body, queryOf(request).optional("name")));
  sendJson(reply, 201, { Id: id, Warnings: warnings });
}

/** Only this machine's own platform runs here. */
function checkPlatform(platform: string): void {
  const [system, architecture] = platform.split("/");
  const own = process.arch === "x64" ? ["amd64", "x86_64"] : [process.arch];
  if (system === "linux" && (architecture === undefined || own.includes(architecture))) return;
  throw new EngineError(
    "unsupported",
    `the platform ${platform} is not supported: containers run on this machine's own`,
  );
}

async function inspect(
  { containers, layers }: ContainerServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const container = containers.get(pathPart(request, "id"));
  const size = queryOf(request).flag("size") ? await containers.size(container.id) : undefined;
  const driver = { name: layers.driverName, data: describe(layers, container.id) };
  sendJson(reply, 200, inspectJson(container, driver, size));
}

/** A container that is being removed may have no layer any more. */
function describe(layers: ContainerServices["layers"], id: string): Readonly<Record<string, string>> | null {
  try {
    return layers.describeWritable(id);
  } catch {
    return null;
  }
}

function commitReference(query: Query): string | undefined {
  const repository = query.optional("repo");
  const tag = query.optional("tag");
  if (repository === undefined) return undefined;
  const reference = tag === undefined ? repository : `${repository}:${tag}`;
  parseReference(reference);
  return reference;
}

async function commit({ containers }: ContainerServices, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const query = queryOf(request);
  const body = await readOptionalJson(request.raw, configBody);
  const id = await containers.commit(query.text("container"), {
    reference: commitReference(query),
    author: query.text("author"),
    comment: query.text("comment"),
    pause: query.flag("pause", true),
    config: body === undefined ? undefined : runConfig(body),
    changes: query.list("changes"),
  });
  sendJson(reply, 201, { Id: id });
}
