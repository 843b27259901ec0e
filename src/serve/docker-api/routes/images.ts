/** `/images`: list, inspect, history, tag, delete, prune. Names hold slashes, so the last word of the path says what is asked. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ImageId } from "../../../base/digest.ts";
import { EngineError } from "../../../base/errors.ts";
import type { ContainerService } from "../../../container/container.ts";
import type { HistoryRow } from "../../../image/history.ts";
import type { ListedImage, ListOptions } from "../../../image/list.ts";
import type { PrunedImages } from "../../../image/prune.ts";
import type { Image, ImageStore } from "../../../image/store.ts";
import type { LayerStore } from "../../../layer/store.ts";
import { versionOf } from "../api-version.ts";
import { imageInspectJson, imageSummaryJson, removedJson } from "../image-json.ts";
import { pathPart, queryOf } from "../query.ts";
import { refuse, sendEmpty, sendJson } from "../respond.ts";
import { clientSignal } from "../stream.ts";
import { type ImageArchiveServices, sendSaved } from "./image-archives.ts";

export type ImageServices = ImageArchiveServices & {
  readonly images: Pick<ImageStore, "get" | "tag" | "remove">;
  readonly imageViews: ImageViews;
  readonly layers: Pick<LayerStore, "describeLayer" | "driverName">;
  readonly containers: Pick<ContainerService, "usersOf">;
};

/** What is asked of all images at once; the engine binds these to its stores. */
export type ImageViews = {
  readonly list: (options: ListOptions) => readonly ListedImage[];
  readonly history: (image: Image) => readonly HistoryRow[];
  readonly prune: (filters: ListOptions["filters"], signal: AbortSignal) => Promise<PrunedImages>;
  /** Bytes of each image's layers that another image has too. */
  readonly sharedSizes: () => ReadonlyMap<ImageId, number>;
  /** Bytes of all layers, each once. */
  readonly layersSize: () => number;
};

type Handler = (services: ImageServices, name: string, request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Takes `rest` of the path apart: "acme/app:1/json" asks `json` of "acme/app:1". */
export function splitAction(rest: string): { readonly name: string; readonly action: string } {
  const slash = rest.lastIndexOf("/");
  return { name: rest.slice(0, Math.max(slash, 0)), action: rest.slice(slash + 1) };
}

export function imageRoutes(app: FastifyInstance, services: ImageServices): void {
  app.get("/images/json", (request, reply) => list(services, request, reply));
  app.get("/images/search", async () => refuse("search is not supported yet: Strata talks to no registry"));
  app.post("/images/prune", async (request, reply) => {
    const filters = Object.fromEntries(queryOf(request).filters());
    const signal = clientSignal(reply, services.stopping);
    const { removed, reclaimed } = await services.imageViews.prune(filters, signal);
    sendJson(reply, 200, {
      ImagesDeleted: removed.length > 0 ? removed.map(removedJson) : null,
      SpaceReclaimed: reclaimed,
    });
  });
  app.get("/images/*", (request, reply) => dispatch(getters, services, request, reply));
  app.post("/images/*", (request, reply) => dispatch(posters, services, request, reply));
  app.delete("/images/*", async (request, reply) => {
    const query = queryOf(request);
    const removed = await services.images.remove(pathPart(request, "*"), {
      force: query.flag("force"),
      prune: !query.flag("noprune"),
      usedBy: (id) => services.containers.usersOf(id),
    });
    sendJson(reply, 200, removed.map(removedJson));
  });
}

const getters: Readonly<Record<string, Handler>> = {
  json: inspect,
  history,
  get: (services, name, _request, reply) => sendSaved(services, [name], reply),
};
const posters: Readonly<Record<string, Handler>> = {
  tag,
  push: async () => refuse("push is not supported yet: Strata talks to no registry"),
};

function dispatch(
  actions: Readonly<Record<string, Handler>>,
  services: ImageServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const { name, action } = splitAction(pathPart(request, "*"));
  const handler = Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (handler === undefined || name === "") throw new EngineError("not_found", "page not found");
  return handler(services, name, request, reply);
}

async function list(services: ImageServices, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const query = queryOf(request);
  const shared = query.flag("shared-size") ? services.imageViews.sharedSizes() : undefined;
  const filters = Object.fromEntries(query.filters());
  const rows = services.imageViews.list({ all: query.flag("all"), filters }).map(({ image, references }) => {
    const figures = { containers: -1, sharedSize: shared?.get(image.id) ?? -1, references };
    return imageSummaryJson(image, figures, versionOf(request.raw));
  });
  sendJson(reply, 200, rows);
}

async function inspect(
  { images, layers }: ImageServices,
  name: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const image = images.get(name);
  const data = image.top === undefined ? null : layers.describeLayer(image.top);
  sendJson(reply, 200, imageInspectJson(image, { Name: layers.driverName, Data: data }, versionOf(request.raw)));
}

async function history(
  { images, imageViews }: ImageServices,
  name: string,
  _request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  sendJson(reply, 200, imageViews.history(images.get(name)));
}

async function tag(services: ImageServices, name: string, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const query = queryOf(request);
  const label = query.optional("tag");
  await services.images.tag(name, label === undefined ? query.text("repo") : `${query.text("repo")}:${label}`);
  sendEmpty(reply, 201);
}
