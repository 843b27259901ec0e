/** `/containers/{id}/archive` (`docker cp`) and `/containers/{id}/export`. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import type { ContainerService, PathStat } from "../../../container/container.ts";
import { bodyOf } from "../body.ts";
import { pathPart, queryOf } from "../query.ts";
import { commonHeaders, sendEmpty } from "../respond.ts";
import { clientSignal, sendBytes } from "../stream.ts";

export type ContainerFileServices = {
  readonly containers: Pick<ContainerService, "statPath" | "readArchive" | "writeArchive" | "export">;
  readonly stopping: AbortSignal;
};

function pathOf(request: FastifyRequest): string {
  const path = queryOf(request).text("path");
  if (path === "") throw new EngineError("invalid_argument", "bad parameter: 'path' cannot be empty");
  return path;
}

/** Value of `X-Docker-Container-Path-Stat`. */
function statHeader(stat: PathStat): string {
  return Buffer.from(JSON.stringify(stat)).toString("base64");
}

export function containerFileRoutes(app: FastifyInstance, { containers, stopping }: ContainerFileServices): void {
  app.head("/containers/:id/archive", async (request, reply) => {
    const stat = await containers.statPath(pathPart(request, "id"), pathOf(request));
    reply.hijack();
    reply.raw.writeHead(200, { ...commonHeaders, "X-Docker-Container-Path-Stat": statHeader(stat) });
    reply.raw.end();
  });
  app.get("/containers/:id/archive", async (request, reply) => {
    const signal = clientSignal(reply, stopping);
    const { stat, tar } = await containers.readArchive(pathPart(request, "id"), pathOf(request), signal);
    const headers = { "Content-Type": "application/x-tar", "X-Docker-Container-Path-Stat": statHeader(stat) };
    await sendBytes(reply, tar, { signal, headers });
  });
  app.put("/containers/:id/archive", async (request, reply) => {
    const query = queryOf(request);
    await containers.writeArchive(pathPart(request, "id"), pathOf(request), bodyOf(request.raw), {
      noOverwriteDirNonDir: query.flag("noOverwriteDirNonDir"),
      copyOwner: query.flag("copyUIDGID"),
    });
    sendEmpty(reply, 200);
  });
  app.get("/containers/:id/export", async (request, reply) => {
    const signal = clientSignal(reply, stopping);
    const headers = { "Content-Type": "application/octet-stream" };
    await sendBytes(reply, containers.export(pathPart(request, "id"), signal), { signal, headers });
  });
}
