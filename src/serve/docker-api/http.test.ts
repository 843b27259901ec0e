import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "../../base/errors.ts";
import { EventBus } from "../../base/events.ts";
import { engineVersion } from "../../base/version.ts";
import type { BuildOptions } from "../../build/builder.ts";
import type { NewContainer } from "../../container/container.ts";
import type { ImportOptions } from "../../transfer/transfer.ts";
import { type Given, runningContainer, startServer } from "./server.fixture.ts";

const json = { "Content-Type": "application/json" };

test("ping tells the versions, on GET and HEAD", async () => {
  await using server = await startServer({});
  for (const method of ["GET", "HEAD"]) {
    const { status, headers, text } = await server.call(method, "/_ping");
    assert.equal(status, 200);
    assert.equal(text, method === "GET" ? "OK" : "");
    assert.equal(headers["api-version"], "1.48");
    assert.equal(headers["builder-version"], "1");
    assert.equal(headers["docker-experimental"], "false");
    assert.equal(headers.ostype, "linux");
    assert.equal(headers.swarm, "inactive");
    assert.equal(headers["content-type"], "text/plain; charset=utf-8");
    assert.equal(headers["cache-control"], "no-cache, no-store, must-revalidate");
  }
});

test("the engine's version is the package's", () => {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  assert.equal(engineVersion, JSON.parse(text).version);
});

test("versions from 1.24 to 1.48 are served, others refused in Docker's words", async () => {
  await using server = await startServer({});
  for (const version of ["1.24", "1.41", "1.48"])
    assert.equal((await server.call("GET", `/v${version}/_ping`)).status, 200);
  const newer = await server.call("GET", "/v1.99/version");
  assert.equal(newer.status, 400);
  assert.deepEqual(JSON.parse(newer.text), {
    message: "client version 1.99 is too new. Maximum supported API version is 1.48",
  });
  const older = await server.call("GET", "/v1.9/version");
  assert.match(older.text, /client version 1\.9 is too old\. Minimum supported API version is 1\.24/);
});

test("an unknown page is 404, a swarm page 503, and nothing shows a stack", async () => {
  await using server = await startServer({
    images: {
      get: () => {
        throw new TypeError("boom");
      },
    },
  });
  const unknown = await server.call("GET", "/v1.45/nothing/here");
  assert.deepEqual([unknown.status, unknown.text], [404, '{"message":"page not found"}\n']);
  const swarm = await server.call("GET", "/services");
  assert.equal(swarm.status, 503);
  assert.match(swarm.text, /This node is not a swarm manager/);
  const failure = await server.call("GET", "/images/a/b:c/json");
  assert.deepEqual([failure.status, failure.text], [500, '{"message":"boom"}\n']);
});

test("bodies that are not one JSON object of the right type are 400 with Docker's words", async () => {
  await using server = await startServer({});
  const create = (body: string, headers: Record<string, string> = json) =>
    server.call("POST", "/volumes/create", { body, headers });
  const table: readonly (readonly [string, Record<string, string>, RegExp])[] = [
    [
      "{}",
      { "Content-Type": "text/plain" },
      /unsupported Content-Type header \(text\/plain\): must be 'application\/json'/,
    ],
    ["{}", {}, /malformed Content-Type header \(\): mime: no media type/],
    ["{}", { "Content-Type": "a b" }, /malformed Content-Type header \(a b\)/],
    ["{bad", json, /invalid JSON/],
    ['{"Name":', json, /invalid JSON: unexpected EOF/],
    ['{"Name":"x"} {}', json, /unexpected content after JSON/],
    ['{"Name":1}', json, /invalid JSON: Name: /],
    ["", json, /invalid JSON: got EOF while reading request body/],
    ["[]", json, /invalid JSON/],
  ];
  for (const [body, headers, message] of table) {
    const answer = await create(body, headers);
    assert.equal(answer.status, 400, `${body} ${JSON.stringify(headers)}: ${answer.text}`);
    assert.match(JSON.parse(answer.text).message, message);
  }
});

test("a body past 8 MiB is refused", async () => {
  await using server = await startServer({});
  const body = JSON.stringify({ Name: "x".repeat(9 * 1024 * 1024) });
  const { status, text } = await server.call("POST", "/volumes/create", { body, headers: json });
  assert.equal(status, 400);
  assert.match(text, /larger than 8 MiB/);
});

for (const [what, read] of [
  ["nothing", async () => []],
  [
    "the beginning",
    async (body: AsyncIterable<Uint8Array>) => {
      for await (const _ of body) break;
      return [];
    },
  ],
  [
    "what is wrong",
    async (body: AsyncIterable<Uint8Array>) => {
      await body[Symbol.asyncIterator]().next();
      throw new EngineError("invalid_argument", "no archive");
    },
  ],
] as const)
  test(`who sends all of a body first is answered and served again, when ${what} of it was read`, {
    timeout: 60_000,
  }, async () => {
    await using server = await startServer({ transfer: { load: read } });
    const body = Buffer.alloc(8 * 1024 * 1024, 1);
    const head = `POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
    const connection = server.raw(head, body);
    const tooLate = setTimeout(() => connection.destroy(new Error("nobody reads the rest")), 30_000);
    const answers: Buffer[] = [];
    connection.on("data", (chunk: Buffer) => answers.push(chunk));
    // As those clients do: the next request comes when the body is out.
    await new Promise<void>((resolve) => connection.write("", () => resolve()));
    if (connection.errored !== null) throw connection.errored;
    connection.write("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await once(connection, "end");
    clearTimeout(tooLate);
    connection.destroy();
    const text = Buffer.concat(answers).toString();
    assert.match(text, /^HTTP\/1.1 200 /);
    assert.equal(
      text.includes('{"errorDetail":{"message":"no archive"},"error":"no archive"}'),
      what === "what is wrong",
    );
    assert.match(text, /\nHTTP\/1.1 200 OK[\s\S]*OK$/);
  });

test("create passes the request on: nulls are not given, unknown members stay, words become lists", async () => {
  let seen: NewContainer | undefined;
  const create = async (request: NewContainer) => {
    seen = request;
    return { id: "1".repeat(64), warnings: [] };
  };
  await using server = await startServer({ containers: { create } });
  const body = JSON.stringify({
    Image: "busybox",
    Cmd: "true",
    Env: null,
    Labels: { a: "b" },
    HostConfig: {
      NetworkMode: "host",
      CapAdd: null,
      Odd: { x: 1 },
      Mounts: [{ Type: "volume", Target: "/d", VolumeOptions: null }],
    },
    NetworkingConfig: { EndpointsConfig: { host: null } },
  });
  const { status, text } = await server.call("POST", "/v1.45/containers/create?name=web", { body, headers: json });
  assert.deepEqual([status, JSON.parse(text)], [201, { Id: "1".repeat(64), Warnings: [] }]);
  assert.deepEqual(seen, {
    name: "web",
    config: { Image: "busybox", Cmd: ["true"], Labels: { a: "b" } },
    hostConfig: { NetworkMode: "host", Odd: { x: 1 }, Mounts: [{ Type: "volume", Target: "/d" }] },
    networks: { host: {} },
  });
});

test("what an endpoint asks and would not get is refused; aliases and empty members ask for nothing", async () => {
  const create = async () => ({ id: "1".repeat(64), warnings: [] });
  await using server = await startServer({ containers: { create } });
  const statusOf = async (endpoint: object): Promise<number> => {
    const body = JSON.stringify({ Image: "bb", NetworkingConfig: { EndpointsConfig: { bridge: endpoint } } });
    return (await server.call("POST", "/containers/create", { body, headers: json })).status;
  };
  for (const endpoint of [
    { IPAMConfig: { IPv4Address: "10.0.0.2" } },
    { IPAMConfig: { LinkLocalIPs: ["10.0.0.2"] } },
    { MacAddress: "92:d0:c6:0a:29:33" },
    { Links: ["a"] },
    { DriverOpts: { a: "b" } },
  ])
    assert.equal(await statusOf(endpoint), 501, JSON.stringify(endpoint));
  for (const endpoint of [{}, { Aliases: ["web"], IPAMConfig: { IPv4Address: "" }, Links: [], MacAddress: "" }])
    assert.equal(await statusOf(endpoint), 201, JSON.stringify(endpoint));
});

test("an empty create is refused", async () => {
  await using server = await startServer({});
  const empty = await server.call("POST", "/containers/create");
  assert.match(empty.text, /config cannot be empty in order to create a container/);
});

test("a network that does not exist is found out at start, not at create, where 404 means the image", async () => {
  const get = (): never => {
    throw new EngineError("not_found", "network nope not found");
  };
  const container = runningContainer({ hostConfig: { NetworkMode: "nope" } });
  await using server = await startServer({ containers: { get: () => container }, networks: { get } });
  const { status, text } = await server.call("POST", "/containers/web/start");
  assert.deepEqual([status, text], [404, '{"message":"network nope not found"}\n']);
});

test("already started and already stopped are 304 without a body", async () => {
  await using server = await startServer({
    containers: { get: () => runningContainer(), start: async () => false, stop: async () => false },
  });
  for (const action of ["start", "stop"]) {
    const { status, text } = await server.call("POST", `/containers/web/${action}`);
    assert.deepEqual([status, text], [304, ""]);
  }
});

test("wait sends its headers before the container ends", async () => {
  const exit = Promise.withResolvers<{ exitCode: number }>();
  const containers: Given["containers"] = { get: () => runningContainer(), wait: () => exit.promise };
  await using server = await startServer({ containers });
  const connection = server.raw("POST /v1.45/containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: e\r\n\r\n");
  const [head] = (await once(connection, "data")) as [Buffer];
  assert.match(head.toString(), /^HTTP\/1\.1 200 OK\r\n/);
  exit.resolve({ exitCode: 7 });
  const [rest] = (await once(connection, "data")) as [Buffer];
  assert.match(rest.toString(), /\{"StatusCode":7\}/);
  connection.destroy();
  assert.equal((await server.call("POST", "/containers/web/wait?condition=odd")).status, 400);
});

test("events replay what was, follow what comes, and end at until", async () => {
  const events = new EventBus();
  await using server = await startServer({ events });
  events.emit("container", "create", "c1", { name: "web", image: "busybox" });
  events.emit("volume", "create", "v1", { driver: "local" });
  const filters = encodeURIComponent(JSON.stringify({ type: { container: true } }));
  const until = Date.now() / 1000 + 0.3;
  const answer = server.call("GET", `/events?since=1&until=${until}&filters=${filters}`);
  await sleep(100);
  events.emit("container", "start", "c1", { name: "web", image: "busybox" });
  const lines = (await answer).text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ Action }) => Action),
    ["create", "start"],
  );
  const [first] = lines;
  assert.deepEqual([first.status, first.id, first.from, first.scope], ["create", "c1", "busybox", "local"]);
  assert.deepEqual(first.Actor, { ID: "c1", Attributes: { name: "web", image: "busybox" } });
  assert.equal(Math.trunc(first.timeNano / 1e9), first.time);
  assert.equal((await server.call("GET", "/events?filters=%7B%22odd%22%3A%7B%7D%7D")).status, 400);
});

test("a client that goes away aborts the import it was sending", async () => {
  const aborted = Promise.withResolvers<unknown>();
  const importImage = async (_tar: AsyncIterable<Uint8Array>, { signal }: ImportOptions): Promise<never> => {
    signal?.addEventListener("abort", () => aborted.resolve(signal.reason));
    return new Promise(() => undefined);
  };
  await using server = await startServer({ transfer: { importImage } });
  const connection = server.raw(
    "POST /images/create?fromSrc=-&repo=a HTTP/1.1\r\nHost: e\r\nContent-Length: 100\r\n\r\nsome",
  );
  await sleep(50);
  connection.destroy();
  assert.match(String(await aborted.promise), /the client went away/);
});

test("the server's end aborts what streams", async () => {
  const server = await startServer({});
  const connection = server.raw("GET /events HTTP/1.1\r\nHost: e\r\n\r\n");
  await once(connection, "data");
  const ended = once(connection, "close");
  const before = performance.now();
  await server[Symbol.asyncDispose]();
  connection.end();
  await ended;
  assert.ok(performance.now() - before < 900);
});

test("a build decodes its query, streams its messages, and ends with its error", async () => {
  let seen: BuildOptions | undefined;
  const build = async (_context: AsyncIterable<Uint8Array>, options: BuildOptions, tell: (m: object) => void) => {
    seen = options;
    tell({ stream: "Step 1/1 : FROM scratch\n" });
    throw new EngineError("invalid_argument", "bad instruction");
  };
  await using server = await startServer({ builder: { build: build as never } });
  const args = encodeURIComponent('{"A":"1","B":null}');
  const path = `/v1.45/build?t=a:1&t=b&buildargs=${args}&labels=%7B%22x%22%3A%22y%22%7D&nocache=1&rm=0&q=&networkmode=host&ulimits=null&cachefrom=%5B%5D&pull=False&squash=no&memswap=0`;
  const { status, text } = await server.call("POST", path, {
    body: "tar",
    headers: { "Content-Type": "application/x-tar" },
  });
  assert.equal(status, 200);
  assert.deepEqual(
    text
      .trim()
      .split("\r\n")
      .map((line) => JSON.parse(line)),
    [
      { stream: "Step 1/1 : FROM scratch\n" },
      { errorDetail: { message: "bad instruction" }, error: "bad instruction" },
    ],
  );
  assert.ok(seen !== undefined);
  const { tags, buildArgs, labels, noCache, remove, networkMode } = seen;
  assert.deepEqual(
    { tags, buildArgs, labels, noCache, remove, networkMode },
    {
      tags: ["a:1", "b"],
      buildArgs: { A: "1", B: null },
      labels: { x: "y" },
      noCache: true,
      remove: false,
      networkMode: "host",
    },
  );
});

test("what Strata does not do is said in one sentence with 501", async () => {
  await using server = await startServer({});
  const table: readonly (readonly [string, string, RegExp])[] = [
    ["POST", "/build?version=2", /DOCKER_BUILDKIT=0/],
    ["POST", "/build?remote=http%3A%2F%2Fx", /send the context itself/],
    ["POST", "/build?squash=1", /squash is not supported/],
    ["POST", "/images/create?fromImage=busybox&tag=latest", /pull is not supported yet/],
    ["POST", "/images/a/b/push", /push is not supported yet/],
    ["GET", "/images/search?term=x", /search is not supported yet/],
    ["POST", "/auth", /login is not supported yet/],
    ["POST", "/session", /DOCKER_BUILDKIT=0/],
    ["GET", "/distribution/a/b/json", /not supported yet/],
    ["PUT", "/volumes/v1", /no swarm/],
    ["GET", "/containers/web/attach/ws", /websocket is not supported/],
  ];
  for (const [method, path, message] of table) {
    const { status, text } = await server.call(method, path);
    assert.equal(status, 501, `${method} ${path}`);
    assert.match(JSON.parse(text).message, message);
  }
});

test("logs need a stream, are framed, and refuse details", async () => {
  const logs = async function* () {
    yield { stream: "stdout" as const, data: Buffer.from("a\n") };
    yield { stream: "stderr" as const, data: Buffer.from("b\n") };
  };
  await using server = await startServer({ containers: { get: () => runningContainer(), logs } });
  assert.match((await server.call("GET", "/containers/web/logs")).text, /you must choose at least one stream/);
  assert.equal((await server.call("GET", "/containers/web/logs?stdout=1&details=1")).status, 501);
  const { text, headers } = await server.call("GET", "/v1.41/containers/web/logs?stdout=1&stderr=1");
  assert.equal(text, "\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x02b\n");
  assert.equal(headers["content-type"], "application/vnd.docker.raw-stream");
});

test("a stream that fails before its first byte keeps its status; after it the connection breaks", async () => {
  let first: Uint8Array | undefined;
  const save = async function* (): AsyncGenerator<Uint8Array> {
    if (first !== undefined) yield first;
    throw new EngineError("not_found", "No such image: x");
  };
  await using server = await startServer({ transfer: { save } });
  const early = await server.call("GET", "/images/x/get");
  assert.deepEqual([early.status, early.text], [404, '{"message":"No such image: x"}\n']);
  first = Buffer.from("data");
  await assert.rejects(server.call("GET", "/images/get?names=x&names=y"), /aborted|hang up|ECONNRESET/);
});
