/** Answers have the members that a stock dockerd's recorded answers have, with the same kinds of values. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { parseChainId, parseDiffId, parseImageId } from "../../base/digest.ts";
import type { Image } from "../../image/store.ts";
import type { ContainerStats } from "../../runtime/runtime.ts";
import type { Volume } from "../../volume/store.ts";
import { inspectJson, summaryJson } from "./container-json.ts";
import { eventLine } from "./event-json.ts";
import { imageInspectJson, imageSummaryJson } from "./image-json.ts";
import { networkJson } from "./network-json.ts";
import { runningContainer } from "./server.fixture.ts";
import { statsJson } from "./stats-json.ts";
import { volumeJson, volumeUsageJson } from "./volume-json.ts";

const traces = new URL("../../../../shared/traces/dockerd-26.1-api/", import.meta.url);
const skip = existsSync(traces) ? false : "the recorded answers are not at hand";

type Json = Readonly<Record<string, unknown>>;

function recorded(name: string): Json {
  const value: unknown = JSON.parse(readFileSync(new URL(name, traces), "utf8"));
  return (Array.isArray(value) ? value[0] : value) as Json;
}

const kindOf = (value: unknown): string => (value === null ? "null" : Array.isArray(value) ? "list" : typeof value);

/** Members of `theirs` that `ours` lacks or has as another kind (null stands for any). */
function differences(theirs: Json, ours: Json, except: readonly string[] = []): string[] {
  return Object.entries(theirs).flatMap(([key, value]) => {
    if (except.includes(key)) return [];
    if (!Object.hasOwn(ours, key)) return [`${key} is missing`];
    const kinds = [kindOf(value), kindOf(ours[key])];
    return kinds.includes("null") || kinds[0] === kinds[1] ? [] : [`${key} is ${kinds[1]}, not ${kinds[0]}`];
  });
}

const wire = (value: object): Json => JSON.parse(JSON.stringify(value)) as Json;

const digest = `sha256:${"a".repeat(64)}`;
const image: Image = {
  id: parseImageId(digest),
  bytes: "{}",
  config: {
    architecture: "amd64",
    os: "linux",
    created: "2026-11-20T20:12:02.084122582Z",
    rootfs: { type: "layers", diff_ids: [digest] },
    config: { Cmd: ["sh"] },
  },
  diffIds: [parseDiffId(digest)],
  top: parseChainId(digest),
  parent: undefined,
  local: true,
  size: 5,
  references: ["docker.io/acme/app:1"],
  lastTagged: undefined,
};
const driver = { name: "overlay2", data: { UpperDir: "/u" } };
const size = { rw: 6, rootFs: 11 };
const volume: Volume = {
  name: "v",
  driver: "local",
  options: {},
  labels: {},
  anonymous: false,
  createdAt: "2026-11-20T20:12:02Z",
  mountpoint: "/m",
  scope: "local",
};
const stats: ContainerStats = {
  cpuTotal: 1,
  cpuUser: 1,
  cpuSystem: 1,
  systemCpu: 1,
  onlineCpus: 2,
  memoryUsage: 1,
  memoryLimit: 2,
  memoryStats: { cache: 1 },
  pids: 1,
  blkio: [],
};

describe("shapes of a stock dockerd", { skip }, () => {
  test("a row of docker ps", () => {
    const ours = wire(summaryJson(runningContainer(), { size, now: Date.now(), findImage: () => undefined }));
    assert.deepEqual(differences(recorded("containers-json.json"), ours), []);
  });

  test("docker inspect of a container, its state, host config and config", () => {
    const theirs = recorded("container-inspect.json");
    const ours = wire(inspectJson(runningContainer(), driver, size));
    assert.deepEqual(differences(theirs, ours), []);
    const part = (name: string, except: readonly string[] = []): string[] =>
      differences(theirs[name] as Json, ours[name] as Json, except);
    assert.deepEqual(part("State", ["Health"]), []);
    assert.deepEqual(part("HostConfig", ["Mounts"]), []);
    assert.deepEqual(part("Config", ["Healthcheck"]), []);
    assert.deepEqual(part("NetworkSettings"), []);
  });

  test("a row of docker images, and docker image inspect", () => {
    const row = wire(imageSummaryJson(image, { containers: -1, sharedSize: -1 }, "1.45"));
    assert.deepEqual(differences(recorded("images-json.json"), row), []);
    assert.deepEqual(Object.keys(row).toSorted(), Object.keys(recorded("images-json.json")).toSorted());
    const theirs = recorded("image-inspect.json");
    const ours = wire(imageInspectJson(image, { Name: "overlay2", Data: {} }, "1.45"));
    assert.deepEqual(Object.keys(ours), Object.keys(theirs));
    assert.deepEqual(differences(theirs, ours), []);
  });

  test("VirtualSize is for clients before 1.44", () => {
    const rowFor = (version: string): Json =>
      wire(imageSummaryJson(image, { containers: -1, sharedSize: -1 }, version));
    assert.equal(rowFor("1.43").VirtualSize, 5);
    assert.equal(rowFor("1.44").VirtualSize, undefined);
  });

  test("volumes, with and without their usage", () => {
    assert.deepEqual(wire(volumeJson(volume)).Labels, null);
    assert.deepEqual(Object.keys(wire(volumeJson(volume))), Object.keys(recorded("volume-inspect.json")));
    const theirs = (recorded("system-df.json").Volumes as readonly Json[])[0] ?? {};
    assert.deepEqual(Object.keys(wire(volumeUsageJson(volume, 1, 2))), Object.keys(theirs));
  });

  test("networks", () => {
    const network = {
      id: "a".repeat(64),
      name: "host",
      driver: "host",
      created: "2026-11-20T20:12:02Z",
      internal: false,
      options: {},
      labels: {},
      ipam: {},
      containers: [],
    };
    const theirs = recorded("network-inspect.json");
    const ours = wire(networkJson(network, [runningContainer()]));
    assert.deepEqual(differences(theirs, ours), []);
    const [endpoint] = Object.values(theirs.Containers as Readonly<Record<string, Json>>);
    const [own] = Object.values(ours.Containers as Readonly<Record<string, Json>>);
    assert.deepEqual(Object.keys(own ?? {}), Object.keys(endpoint ?? {}));
  });

  test("stats", () => {
    const reading = { at: "2026-11-20T20:12:03Z", stats };
    const theirs = recorded("container-stats.json");
    const ours = wire(statsJson(runningContainer(), reading, reading));
    assert.deepEqual(differences(theirs, ours), []);
    assert.deepEqual(differences(theirs.cpu_stats as Json, ours.cpu_stats as Json), []);
    assert.deepEqual(differences(theirs.blkio_stats as Json, ours.blkio_stats as Json), []);
    assert.deepEqual(differences(theirs.memory_stats as Json, ours.memory_stats as Json, ["max_usage"]), []);
  });

  test("events of containers carry what old clients read, others do not", () => {
    const lines = readFileSync(new URL("events.jsonl", traces), "utf8").trim().split("\n");
    const theirs = lines.map((line) => JSON.parse(line) as Json);
    for (const type of ["container", "image", "volume", "network"] as const) {
      const sample = theirs.find((event) => event.Type === type);
      const ours = JSON.parse(eventLine({ type, action: "x", id: "1", attributes: {}, time: 1.5 })) as Json;
      assert.deepEqual(Object.keys(ours), Object.keys(sample ?? {}), type);
    }
  });
});
