/** `GET /strata/volume-drivers`: ours, no part of Docker's API. Which volume drivers there are, and what they lack here. */
import type { FastifyInstance } from "fastify";
import type { VolumeStore } from "../../../volume/store.ts";
import { sendJson } from "../respond.ts";

export function volumeDriverRoutes(
  app: FastifyInstance,
  { volumes }: { readonly volumes: Pick<VolumeStore, "driverStates"> },
): void {
  app.get("/strata/volume-drivers", async (_, reply) => {
    const drivers = (await volumes.driverStates()).map(({ name, scope, sized, snapshots, foreign, missing }) => ({
      Name: name,
      Scope: scope,
      Size: sized,
      Snapshots: snapshots,
      Plugin: foreign,
      Missing: missing ?? "",
    }));
    sendJson(reply, 200, { Drivers: drivers });
  });
}
