/** `/volumes`. */
import type { FastifyInstance } from "fastify";
import * as v from "valibot";
import { looseObject, textMap } from "../../../base/shape.ts";
import type { VolumeStore } from "../../../volume/store.ts";
import { isOlder, versionOf } from "../api-version.ts";
import { readJson } from "../body.ts";
import { pathPart, queryOf } from "../query.ts";
import { refuse, sendEmpty, sendJson } from "../respond.ts";
import { volumeJson } from "../volume-json.ts";

export type VolumeServices = {
  readonly volumes: Pick<VolumeStore, "create" | "get" | "list" | "remove" | "prune">;
};

const texts = v.nullish(textMap);

const createBody = looseObject({
  Name: v.nullish(v.string()),
  Driver: v.nullish(v.string()),
  DriverOpts: texts,
  Labels: texts,
  ClusterVolumeSpec: v.optional(v.unknown()),
});

export function volumeRoutes(app: FastifyInstance, { volumes }: VolumeServices): void {
  app.get("/volumes", async (request, reply) => {
    const found = await volumes.list(queryOf(request).filters());
    const warnings = found.warnings.length > 0 ? found.warnings : null;
    sendJson(reply, 200, { Volumes: found.volumes.map(volumeJson), Warnings: warnings });
  });
  app.get("/volumes/:name", async (request, reply) =>
    sendJson(reply, 200, volumeJson(await volumes.get(pathPart(request, "name")))),
  );
  app.post("/volumes/create", async (request, reply) => {
    const body = await readJson(request.raw, createBody);
    if (body.ClusterVolumeSpec) refuse("cluster volumes need a swarm, which Strata does not have");
    const volume = await volumes.create({
      name: body.Name || undefined,
      driver: body.Driver || undefined,
      options: body.DriverOpts ?? {},
      labels: body.Labels ?? {},
    });
    sendJson(reply, 201, volumeJson(volume));
  });
  app.post("/volumes/prune", async (request, reply) => {
    const filters = new Map(queryOf(request).filters());
    // before 1.42 a prune took named volumes too
    if (isOlder(versionOf(request.raw), "1.42")) filters.set("all", ["true"]);
    const { removed, reclaimed } = await volumes.prune(filters);
    sendJson(reply, 200, { VolumesDeleted: removed.length > 0 ? removed : null, SpaceReclaimed: reclaimed });
  });
  app.put("/volumes/:name", async () => refuse("only cluster volumes can be updated, and Strata has no swarm"));
  app.delete("/volumes/:name", async (request, reply) => {
    const force = queryOf(request).flag("force");
    await volumes.remove(pathPart(request, "name"), { force, snapshots: force });
    sendEmpty(reply, 204);
  });
}
