import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openClient } from "./engine-client.ts";

test("the engine that the docker CLI is told of is asked; one that is not Strata's is named as such", async () => {
  const folder = mkdtempSync(join(tmpdir(), "strata-client-"));
  const socket = join(folder, "docker.sock");
  const server = createServer((request, response) => {
    const known = request.url === "/version";
    response.writeHead(known ? 200 : 404, { Connection: "close" });
    response.end(JSON.stringify(known ? { Version: "1" } : { message: "page not found" }));
  });
  server.listen(socket);
  await once(server, "listening");
  const before = process.env.DOCKER_HOST;
  try {
    process.env.DOCKER_HOST = `unix://${socket}`;
    assert.deepEqual(await openClient().get("/version"), { Version: "1" });
    await assert.rejects(openClient().get("/strata/volume-drivers"), {
      code: "unsupported",
      message: /no strata daemon/,
    });
  } finally {
    if (before === undefined) delete process.env.DOCKER_HOST;
    else process.env.DOCKER_HOST = before;
    server.close();
    rmSync(folder, { recursive: true });
  }
});
