/** A server that answers every request of `docker create` at once: what the CLI itself costs, which no engine can go below. */
import { createServer, type Server } from "node:http";

export function instantServer(socketPath: string): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response
        .setHeader("Api-Version", "1.41")
        .setHeader("Ostype", "linux")
        .setHeader("Content-Type", "application/json");
      if (request.url?.endsWith("/_ping")) return response.end("OK");
      response.statusCode = 201;
      return response.end(JSON.stringify({ Id: "0".repeat(64), Warnings: [] }));
    });
  });
  return new Promise((resolve) => server.listen(socketPath, () => resolve(server)));
}
