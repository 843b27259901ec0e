import assert from "node:assert/strict";
import { test } from "node:test";
import { parseImageId } from "../base/digest.ts";
import type { Container, ContainerStatus } from "./container.ts";
import { listPredicate, parseUntil, prunePredicate } from "./filter.ts";
import { newState } from "./record.ts";

const image = parseImageId(`sha256:${"a".repeat(64)}`);

function sample(name: string, status: ContainerStatus, more: Partial<Container> = {}): Container {
  const { stoppedByUser: _, ...state } = newState;
  return {
    id: name.padEnd(64, "f"),
    name,
    created: "2026-01-02T00:00:00.000000000Z",
    imageId: image,
    image: "busybox",
    path: "sh",
    args: [],
    config: { Labels: { team: "blue", empty: "" }, ExposedPorts: { "80/tcp": {}, "53/udp": {} } },
    hostConfig: { NetworkMode: "host" },
    mounts: [],
    networks: {},
    restartCount: 0,
    state: { ...state, pid: 0, status },
    logPath: "",
    hostnamePath: "",
    hostsPath: "",
    resolvConfPath: "",
    ...more,
  };
}

const web = sample("web", "running");
const job = sample("job", "exited", {
  created: "2026-01-03T00:00:00.000000000Z",
  imageId: undefined,
  config: { Labels: { team: "red" } },
  hostConfig: {},
  state: { ...web.state, status: "exited", exitCode: 3 },
});
const world = {
  find: (name: string): Container => (name === "web" ? web : job),
  ancestors: (name: string) => new Set(name === "busybox" ? [image] : []),
};

const passing = (filters: Record<string, readonly string[]>): string =>
  [web, job]
    .filter(listPredicate(new Map(Object.entries(filters)), world))
    .map(({ name }) => name)
    .join(" ");

const table: readonly (readonly [Record<string, readonly string[]>, string])[] = [
  [{}, "web job"],
  [{ name: ["w"] }, "web"],
  [{ name: ["^/job$"] }, "job"],
  [{ name: ["^web$", "^job$"] }, "web job"],
  [{ id: ["web"] }, "web"],
  [{ label: ["team"] }, "web job"],
  [{ label: ["team=blue"] }, "web"],
  [{ label: ["team=blue", "empty="] }, "web"],
  [{ label: ["team=blue", "none"] }, ""],
  [{ status: ["exited"] }, "job"],
  [{ status: ["exited", "running"] }, "web job"],
  [{ exited: ["3"] }, "job"],
  [{ exited: ["0"] }, ""],
  [{ before: ["job"] }, "web"],
  [{ since: ["web"] }, "job"],
  [{ ancestor: ["busybox"] }, "web"],
  [{ ancestor: ["unknown"] }, ""],
  [{ network: ["host"] }, "web"],
  [{ network: ["bridge"] }, "job"],
  [{ expose: ["80"] }, "web"],
  [{ expose: ["50-60/udp"] }, "web"],
  [{ expose: ["81"] }, ""],
  [{ publish: ["80"] }, ""],
  [{ health: ["none"] }, "web job"],
  [{ health: ["healthy"] }, ""],
  [{ "is-task": ["true"] }, ""],
  [{ "is-task": ["false"], name: ["job"] }, "job"],
];

for (const [filters, names] of table)
  test(`ps --filter ${JSON.stringify(filters)} shows ${JSON.stringify(names)}`, () =>
    assert.equal(passing(filters), names));

test("what is no filter, and what is no value of one, is refused", () => {
  const wrong: readonly (readonly [Record<string, readonly string[]>, string])[] = [
    [{ nope: ["x"] }, "invalid filter 'nope'"],
    [{ constructor: ["x"] }, "invalid filter 'constructor'"],
    [{ ["__proto__"]: ["x"] }, "invalid filter '__proto__'"],
    [{ expose: ["x"] }, "invalid filter 'expose=x'"],
    [{ name: ["a?a?a?a?a"] }, "invalid filter 'name=a?a?a?a?a': use a simpler pattern"],
    [{ status: ["up"] }, "invalid filter 'status=up'"],
    [{ exited: ["x"] }, "invalid filter 'exited=x'"],
    [{ health: ["fine"] }, "invalid filter 'health=fine'"],
    [{ name: ["(a+)+$"] }, "invalid filter 'name=(a+)+$': use a simpler pattern"],
  ];
  for (const [filters, message] of wrong) assert.throws(() => passing(filters), { code: "invalid_argument", message });
});

test("prune takes what is older than until and bears the labels", () => {
  const now = Date.parse("2026-01-04T00:00:00Z");
  const pruned = (filters: Record<string, readonly string[]>): string =>
    [web, job]
      .filter(prunePredicate(new Map(Object.entries(filters)), now))
      .map(({ name }) => name)
      .join(" ");
  assert.equal(pruned({}), "web job");
  assert.equal(pruned({ until: ["36h"] }), "web");
  assert.equal(pruned({ until: ["2026-01-02T12:00:00Z"] }), "web");
  assert.equal(pruned({ label: ["team=red"] }), "job");
  assert.equal(pruned({ "label!": ["team=red"] }), "web");
  assert.throws(() => pruned({ name: ["x"] }), { message: "invalid filter 'name'" });
});

test("until is a time, Unix seconds, or how long ago", () => {
  assert.equal(parseUntil("1h30m", 10_000_000), 10_000_000 - 5_400_000);
  assert.equal(parseUntil("100", 0), 100_000);
  assert.throws(() => parseUntil("soon", 0), { message: "invalid filter 'until=soon'" });
});
