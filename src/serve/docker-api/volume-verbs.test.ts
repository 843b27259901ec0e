/** `/strata/volumes/...` over HTTP: statuses, messages, and what a request asks of the verbs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../base/errors.ts";
import { openClient } from "../../client/engine-client.ts";
import type { VolumeVerbs } from "../../volume/verbs.ts";
import { startServer } from "./server.fixture.ts";

const volume = {
  name: "v2",
  driver: "local",
  options: {},
  labels: {},
  anonymous: false,
  createdAt: "",
  mountpoint: "/m",
  scope: "local",
} as const;
const report = { cost: "copy", byStore: true, bytes: 3, seconds: 1, consistent: true } as const;
const json = { "Content-Type": "application/json" };
const linesOf = (text: string): unknown[] =>
  text
    .trim()
    .split("\r\n")
    .map((line) => JSON.parse(line));

test("long work answers with its progress and its result, with and without a version in front", async () => {
  const asked: unknown[] = [];
  const clone: VolumeVerbs["clone"] = async (from, to, work) => {
    asked.push(from, to, work?.pause);
    work?.progress?.({ step: "copying", bytes: 1, totalBytes: 2 });
    return { volume, report };
  };
  await using server = await startServer({ volumeVerbs: { clone } });
  const body = JSON.stringify({ Name: "v2", DriverOpts: { a: "b" } });
  for (const prefix of ["", "/v1.43"]) {
    const answer = await server.call("POST", `${prefix}/strata/volumes/v1/clone?snapshot=s1&pause=0`, {
      headers: json,
      body,
    });
    assert.equal(answer.status, 200);
    const [progress, result] = linesOf(answer.text) as [object, { aux: { Volume: { Name: string }; Report: object } }];
    assert.deepEqual(progress, { id: "v1", status: "copying", progressDetail: { current: 1, total: 2 } });
    assert.equal(result.aux.Volume.Name, "v2");
    assert.deepEqual(result.aux.Report, { Cost: "copy", ByStore: true, Bytes: 3, Seconds: 1, Consistent: true });
  }
  const to = { name: "v2", driver: undefined, options: { a: "b" }, labels: undefined };
  assert.deepEqual(asked.slice(0, 3), [{ name: "v1", snapshot: "s1" }, to, false]);
});

test("a failure before the first message has its status, a later one is the last message", async () => {
  let late = false;
  const createSnapshot: VolumeVerbs["createSnapshot"] = async (_, __, work) => {
    if (late) work?.progress?.({ step: "copying", bytes: 1 });
    throw new EngineError("conflict", "it is there already");
  };
  await using server = await startServer({ volumeVerbs: { createSnapshot } });
  const early = await server.call("POST", "/strata/volumes/v1/snapshots?name=s1");
  assert.deepEqual([early.status, JSON.parse(early.text)], [409, { message: "it is there already" }]);
  late = true;
  const [, last] = linesOf((await server.call("POST", "/strata/volumes/v1/snapshots?name=s1")).text);
  assert.deepEqual(last, { errorDetail: { message: "it is there already" }, error: "it is there already" });
});

test("errors of every verb have Docker's form and status", async () => {
  const fail = (code: ConstructorParameters<typeof EngineError>[0]) => async () => {
    throw new EngineError(code, "no");
  };
  const verbs = {
    listSnapshots: fail("not_found"),
    removeSnapshot: fail("not_found"),
    restoreSnapshot: fail("conflict"),
    rename: fail("unsupported"),
    update: fail("invalid_argument"),
    resize: fail("no_space"),
    size: fail("not_found"),
    who: fail("not_found"),
    migrate: fail("data_loss"),
    cancelMigration: fail("not_found"),
    import: fail("conflict"),
  };
  await using server = await startServer({ volumeVerbs: verbs });
  for (const [method, path, status, body] of [
    ["GET", "snapshots", 404],
    ["DELETE", "snapshots/s1", 404],
    ["POST", "snapshots/s1/restore", 409],
    ["POST", "rename?name=x", 501],
    ["POST", "update", 400, "{}"],
    ["POST", "update", 400, "["],
    ["POST", "clone", 400, "{}"],
    ["POST", "resize?size=1g", 507],
    ["GET", "usage", 404],
    ["GET", "usage?timeout=soon", 400],
    ["GET", "users", 404],
    ["POST", "migrate", 500, '{"Driver":"x"}'],
    ["POST", "migrate", 400, "{}"],
    ["DELETE", "migrate", 404],
    ["POST", "import", 409],
    ["POST", "import?opts=[1]", 400],
    ["GET", "export?compress=rar", 400],
  ] as const) {
    const answer = await server.call(
      method,
      `/strata/volumes/v1/${path}`,
      body === undefined ? {} : { headers: json, body },
    );
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    assert.equal(typeof JSON.parse(answer.text).message, "string");
  }
});

test("an export that fails before its first byte has its status, and one that fails later is cut off", async () => {
  let late = false;
  const exporting: VolumeVerbs["export"] = async function* () {
    if (late) yield Buffer.from("bytes");
    throw new EngineError("not_found", "no such volume");
  };
  await using server = await startServer({ volumeVerbs: { export: exporting } });
  assert.equal((await server.call("GET", "/strata/volumes/v1/export")).status, 404);
  late = true;
  await assert.rejects(server.call("GET", "/strata/volumes/v1/export"));
});

test("an export tells of the work before its first byte to whoever asks for that, and to nobody else", async () => {
  const exporting: VolumeVerbs["export"] = async function* (_, options) {
    options?.progress?.({ step: "copying", bytes: 1, totalBytes: 2 });
    yield Buffer.from("bytes");
    options?.progress?.({ step: "exporting", bytes: 5 });
  };
  await using server = await startServer({ volumeVerbs: { export: exporting } });
  const client = openClient(`unix://${server.socketPath}`);
  for (const [query, wanted] of [
    ["?progress=1", [{ status: "copying", progressDetail: { current: 1, total: 2 } }]],
    ["", []],
  ] as const) {
    const told: unknown[] = [];
    const chunks: Uint8Array[] = [];
    const path = `/strata/volumes/v1/export${query}`;
    for await (const chunk of client.bytes(path, (message) => told.push(message))) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), "bytes");
    assert.deepEqual(told, wanted);
  }
});
