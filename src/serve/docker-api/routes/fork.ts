/** `POST /containers/{id}/fork`: ours, no part of Docker's API. Answers as a create does. */
import type { FastifyInstance } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import type { ContainerService, ForkVolumes } from "../../../container/container.ts";
import { pathPart, queryOf } from "../query.ts";
import { sendJson } from "../respond.ts";

const choices: readonly string[] = ["copy", "new", "share"] satisfies readonly ForkVolumes[];

export function forkRoutes(
  app: FastifyInstance,
  { containers }: { readonly containers: Pick<ContainerService, "fork"> },
): void {
  app.post("/containers/:id/fork", async (request, reply) => {
    const query = queryOf(request);
    const volumes = query.optional("volumes") ?? "copy";
    if (!choices.includes(volumes))
      throw new EngineError(
        "invalid_argument",
        `invalid volumes: ${JSON.stringify(volumes)}; it is ${choices.join(", ")}`,
      );
    const options = { name: query.optional("name"), volumes: volumes as ForkVolumes };
    const { id } = await containers.fork(pathPart(request, "id"), options);
    sendJson(reply, 201, { Id: id, Warnings: [] });
  });
}
