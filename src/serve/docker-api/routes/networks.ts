/** `/networks`. */
import type { FastifyInstance } from "fastify";
import * as v from "valibot";
import { anyMap, looseObject } from "../../../base/shape.ts";
import type { Container, ContainerService } from "../../../container/container.ts";
import type { Network, NetworkStore } from "../../../network/store.ts";
import { readJson } from "../body.ts";
import { createBody, networkJson, newNetwork, refuseEndpointOptions, usersOf } from "../network-json.ts";
import { pathPart, queryOf } from "../query.ts";
import { sendEmpty, sendJson } from "../respond.ts";

export type NetworkServices = {
  readonly networks: NetworkStore;
  readonly containers: Pick<ContainerService, "get" | "list">;
};

const connectBody = looseObject({
  Container: v.string(),
  EndpointConfig: v.nullish(anyMap),
});
const disconnectBody = looseObject({ Container: v.string(), Force: v.nullish(v.boolean()) });

export function networkRoutes(app: FastifyInstance, { networks, containers }: NetworkServices): void {
  const running = (network: Network): readonly Container[] =>
    usersOf(network, containers.list({ all: false, filters: new Map() }));
  const usedBy = (network: Network): readonly string[] => running(network).map(({ id }) => id);
  const list = async (filters: ReadonlyMap<string, readonly string[]>): Promise<readonly object[]> =>
    networks.list(filters).map((network) => networkJson(network));
  app.get("/networks", async (request, reply) => sendJson(reply, 200, await list(queryOf(request).filters())));
  app.get("/networks/", async (request, reply) => sendJson(reply, 200, await list(queryOf(request).filters())));
  app.get("/networks/:id", async (request, reply) => {
    const network = networks.get(pathPart(request, "id"));
    sendJson(reply, 200, networkJson(network, running(network)));
  });
  app.post("/networks/create", async (request, reply) => {
    const created = await networks.create(newNetwork(await readJson(request.raw, createBody)));
    sendJson(reply, 201, { Id: created.id, Warning: "" });
  });
  app.post("/networks/:id/connect", async (request, reply) => {
    const body = await readJson(request.raw, connectBody);
    const container = containers.get(body.Container);
    refuseEndpointOptions(body.EndpointConfig ?? {});
    await networks.connect(pathPart(request, "id"), container.id);
    sendEmpty(reply, 200);
  });
  app.post("/networks/:id/disconnect", async (request, reply) => {
    const body = await readJson(request.raw, disconnectBody);
    const container = containers.get(body.Container);
    await networks.disconnect(pathPart(request, "id"), container.id);
    sendEmpty(reply, 200);
  });
  app.post("/networks/prune", async (request, reply) => {
    const removed = await networks.prune(queryOf(request).filters(), usedBy);
    sendJson(reply, 200, { NetworksDeleted: removed.length > 0 ? removed : null });
  });
  app.delete("/networks/:id", async (request, reply) => {
    await networks.remove(pathPart(request, "id"), usedBy);
    sendEmpty(reply, 204);
  });
}
