/** `/containers/{id}/stats`: one reading, two a second apart, or one a second until the client goes. */
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import type { ContainerService } from "../../../container/container.ts";
import { pathPart, queryOf } from "../query.ts";
import { sendJson } from "../respond.ts";
import { type Reading, statsJson } from "../stats-json.ts";
import { clientSignal, sendBytes } from "../stream.ts";

export type StatsServices = {
  readonly containers: Pick<ContainerService, "get" | "stats">;
  readonly stopping: AbortSignal;
};

/** Milliseconds between two readings. */
const interval = 1000;

export function statsRoutes(app: FastifyInstance, { containers, stopping }: StatsServices): void {
  app.get("/containers/:id/stats", async (request, reply) => {
    const query = queryOf(request);
    const { id } = containers.get(pathPart(request, "id"));
    const signal = clientSignal(reply, stopping);
    if (query.flag("stream", true)) {
      const headers = { "Content-Type": "application/json" };
      await sendBytes(reply, readings(containers, id, signal), { signal, headers });
      return;
    }
    const first = await read(containers, id);
    if (first === undefined || query.flag("one-shot")) {
      sendJson(reply, 200, statsJson(containers.get(id), first));
      return;
    }
    await sleep(interval, undefined, { signal });
    sendJson(reply, 200, statsJson(containers.get(id), await read(containers, id), first));
  });
}

/** Undefined when the container does not run. */
async function read(containers: StatsServices["containers"], id: string): Promise<Reading | undefined> {
  const { status } = containers.get(id).state;
  if (status !== "running" && status !== "paused") return undefined;
  return { stats: await containers.stats(id), at: new Date().toISOString() };
}

async function* readings(
  containers: StatsServices["containers"],
  id: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let before: Reading | undefined;
  while (!signal.aborted) {
    const now = await read(containers, id);
    yield Buffer.from(`${JSON.stringify(statsJson(containers.get(id), now, before))}\n`);
    before = now;
    await sleep(interval, undefined, { signal }).catch(() => undefined);
  }
}
