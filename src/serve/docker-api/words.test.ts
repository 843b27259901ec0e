import assert from "node:assert/strict";
import { test } from "node:test";
import { parseImageId } from "../../base/digest.ts";
import { commandText, summaryJson } from "./container-json.ts";
import { DetachWatcher, parseDetachKeys } from "./detach-keys.ts";
import { humanDuration, never, statusText } from "./human-duration.ts";
import { formatAddress, parseAddress } from "./listen.ts";
import { parseFilters, Query } from "./query.ts";
import { runningContainer } from "./server.fixture.ts";

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

test("durations read as Docker's", () => {
  const table: readonly (readonly [number, string])[] = [
    [0, "Less than a second"],
    [999, "Less than a second"],
    [second, "1 second"],
    [59 * second, "59 seconds"],
    [minute, "About a minute"],
    [2 * minute - 1, "About a minute"],
    [2 * minute, "2 minutes"],
    [59 * minute, "59 minutes"],
    [hour, "About an hour"],
    [89 * minute, "About an hour"],
    [90 * minute, "2 hours"],
    [47 * hour, "47 hours"],
    [2 * day, "2 days"],
    [13 * day, "13 days"],
    [14 * day, "2 weeks"],
    [59 * day, "8 weeks"],
    [60 * day, "2 months"],
    [729 * day, "24 months"],
    [731 * day, "2 years"],
  ];
  for (const [duration, text] of table) assert.equal(humanDuration(duration), text, String(duration));
});

test("a container's status line follows its state", () => {
  const now = Date.parse("2026-01-02T03:04:09Z");
  const state = runningContainer().state;
  const finishedAt = "2026-01-02T03:02:00Z";
  assert.equal(statusText(state, now), "Up 3 seconds");
  assert.equal(statusText({ ...state, status: "paused" }, now), "Up 3 seconds (Paused)");
  assert.equal(statusText({ ...state, status: "exited", exitCode: 3, finishedAt }, now), "Exited (3) 2 minutes ago");
  assert.equal(statusText({ ...state, status: "restarting", finishedAt }, now), "Restarting (0) 2 minutes ago");
  assert.equal(statusText({ ...state, status: "created", startedAt: never }, now), "Created");
  assert.equal(statusText({ ...state, status: "dead" }, now), "Dead");
  assert.equal(statusText({ ...state, status: "removing" }, now), "Removal In Progress");
});

test("words with blanks are quoted in the command column", () => {
  assert.equal(commandText(runningContainer()), "sh -c 'echo hi'");
});

test("a container names its image by what it was made with, until that name means another", () => {
  const container = runningContainer({ imageId: parseImageId(`sha256:${"a".repeat(64)}`) });
  const shown = (id: string | undefined): unknown => {
    const facts = { size: undefined, now: 0, findImage: () => (id === undefined ? undefined : { id }) };
    return Reflect.get(summaryJson(container, facts), "Image");
  };
  assert.equal(shown(container.imageId), "busybox");
  assert.equal(shown(`sha256:${"b".repeat(64)}`), container.imageId);
  assert.equal(shown(undefined), container.imageId);
});

test("addresses are unix paths or tcp hosts", () => {
  const whole = ["unix:///run/x.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:1", "tcp://localhost:0"];
  for (const text of whole) assert.equal(formatAddress(parseAddress(text)), text);
  assert.equal(formatAddress(parseAddress("tcp://:5000")), "tcp://127.0.0.1:5000");
  for (const text of ["unix://x", "fd://", "tcp://a:99999", `unix:///${"x".repeat(200)}`, "/run/x.sock", "http://x"])
    assert.throws(() => parseAddress(text), /invalid host/, text);
});

test("queries are read as dockerd reads them", () => {
  const query = new Query({ a: "1", b: "false", c: ["x", "y"], d: "", n: "12", bad: "1x", t: "1.5", f: '{"k":["v"]}' });
  assert.deepEqual(
    [query.flag("a"), query.flag("b"), query.flag("d"), query.flag("none", true)],
    [true, false, false, true],
  );
  assert.deepEqual(query.list("c"), ["x", "y"]);
  assert.equal(query.integer("n"), 12);
  assert.equal(query.integer("d"), undefined);
  assert.throws(() => query.integer("bad"), /invalid value for bad/);
  assert.equal(query.time("t"), 1500);
  assert.deepEqual(
    parseFilters({ label: { "a=b": true }, name: ["x"] }),
    new Map([
      ["label", ["a=b"]],
      ["name", ["x"]],
    ]),
  );
  for (const value of [1, [], { a: 1 }, { a: [1] }, { a: [{}] }, { a: { b: "true" } }, { a: { b: false } }])
    assert.throws(() => parseFilters(value), /invalid filters/);
});

test("detach keys are parsed, found across chunks, and given back when they are not the sequence", () => {
  assert.deepEqual(parseDetachKeys(undefined), Uint8Array.of(16, 17));
  assert.deepEqual(parseDetachKeys("ctrl-a,x,ctrl-@"), Uint8Array.of(1, 120, 0));
  for (const text of ["ctrl-!", "abc", "ctrl-"]) assert.throws(() => parseDetachKeys(text), /Invalid detach keys/);
  const watcher = new DetachWatcher(Uint8Array.of(16, 17));
  const push = (...bytes: number[]) => {
    const { pass, detached } = watcher.push(Uint8Array.from(bytes));
    return [[...pass], detached];
  };
  assert.deepEqual(push(1, 16), [[1], false]);
  assert.deepEqual(push(2), [[16, 2], false]);
  assert.deepEqual(push(16, 16), [[16], false]);
  assert.deepEqual(push(17, 5), [[], true]);
});
