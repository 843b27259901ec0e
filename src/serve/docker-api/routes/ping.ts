/** `/_ping`: is anybody there, and what does it speak. */
import type { FastifyInstance } from "fastify";
import { commonHeaders, sendText } from "../respond.ts";

const pingHeaders = {
  "Builder-Version": "1",
  "Cache-Control": "no-cache, no-store, must-revalidate",
  Pragma: "no-cache",
  Swarm: "inactive",
};

export function pingRoutes(app: FastifyInstance): void {
  app.get("/_ping", async (_request, reply) => sendText(reply, "OK", pingHeaders));
  app.head("/_ping", async (_request, reply) => {
    reply.hijack();
    const headers = { ...commonHeaders, ...pingHeaders, "Content-Type": "text/plain; charset=utf-8" };
    reply.raw.writeHead(200, { ...headers, "Content-Length": 0 });
    reply.raw.end();
  });
}
