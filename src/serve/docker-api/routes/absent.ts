/** What dockerd has and Strata has not: no managed plugins, no swarm; both answer as a dockerd without them does. */
import type { FastifyInstance } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import { refuse, sendJson } from "../respond.ts";

const noSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

const swarmPaths = ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"];

export function absentRoutes(app: FastifyInstance): void {
  app.get("/plugins", async (_request, reply) => sendJson(reply, 200, []));
  app.all("/plugins/*", async () =>
    refuse("managed plugins are not supported: run the plugin yourself, as a legacy plugin"),
  );
  for (const path of swarmPaths) {
    const answer = async (): Promise<never> => {
      throw new EngineError("unavailable", noSwarm);
    };
    app.all(path, answer);
    app.all(`${path}/*`, answer);
  }
}
