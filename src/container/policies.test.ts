import assert from "node:assert/strict";
import { test } from "node:test";
import { hostLine, hostsFile, resolvConf } from "./config-files.ts";
import type { HostConfig, RestartPolicy } from "./container.ts";
import { containerPath, goMode } from "./path-stat.ts";
import { RestartTracker, startsAtBoot } from "./restart-policy.ts";
import { mergeEnvironment } from "./spec-input.ts";
import { mergeUpdate } from "./update.ts";

const policy = (Name: RestartPolicy["Name"], MaximumRetryCount = 0): RestartPolicy => ({ Name, MaximumRetryCount });
const failed = { exitCode: 1, ran: 10, stoppedByUser: false };

test("restarts wait twice as long each time, up to a minute, and forget after a run of ten seconds", () => {
  const tracker = new RestartTracker();
  const delays = Array.from({ length: 12 }, () => tracker.next(policy("always"), failed));
  assert.deepEqual(delays.slice(0, 4), [100, 200, 400, 800]);
  assert.equal(delays.at(-1), 60_000);
  assert.equal(tracker.next(policy("always"), { ...failed, ran: 10_000 }), 100);
});

test("each policy restarts what it should, and nothing that a user stopped", () => {
  const wants = (name: RestartPolicy["Name"], ending: typeof failed): boolean =>
    new RestartTracker().next(policy(name), ending) !== undefined;
  const well = { ...failed, exitCode: 0 };
  assert.deepEqual(
    (["", "no", "on-failure", "always", "unless-stopped"] as const).map((name) => wants(name, well)),
    [false, false, false, true, true],
  );
  assert.deepEqual(
    (["", "no", "on-failure", "always", "unless-stopped"] as const).map((name) => wants(name, failed)),
    [false, false, true, true, true],
  );
  assert.equal(wants("always", { ...failed, stoppedByUser: true }), false);
});

test("on-failure:2 tries twice", () => {
  const tracker = new RestartTracker();
  assert.deepEqual(
    [1, 2, 3].map(() => tracker.next(policy("on-failure", 2), failed)),
    [100, 200, undefined],
  );
});

test("at a boot `always` starts whatever ran once, `unless-stopped` not what a user stopped", () => {
  const state = { started: true, exitCode: 0, stoppedByUser: true };
  assert.equal(startsAtBoot(policy("always"), state), true);
  assert.equal(startsAtBoot(policy("unless-stopped"), state), false);
  assert.equal(startsAtBoot(policy("unless-stopped"), { ...state, stoppedByUser: false }), true);
  assert.equal(startsAtBoot(policy("always"), { ...state, started: false }), false);
  assert.equal(startsAtBoot(policy("no"), { ...state, stoppedByUser: false }), false);
});

test("extra hosts become lines of the hosts file, IPv6 too", () => {
  assert.equal(hostLine("db:10.0.0.1"), "10.0.0.1\tdb");
  assert.equal(hostLine("db=::1"), "::1\tdb");
  assert.equal(hostLine("db:[::1]"), "::1\tdb");
  assert.throws(() => hostLine("db"), { code: "invalid_argument", message: 'bad format for add-host: "db"' });
  assert.throws(() => hostLine("db:1.2.3"), { message: 'invalid IP address in add-host: "1.2.3"' });
  assert.throws(() => hostLine("db:host-gateway"), { code: "unsupported" });
});

test("the host network copies the machine's hosts, others get localhost", () => {
  const extra: HostConfig = { ExtraHosts: ["a:1.2.3.4"] };
  assert.equal(hostsFile({ ...extra, NetworkMode: "host" }, "9.9.9.9 x\n"), "9.9.9.9 x\n1.2.3.4\ta\n");
  assert.match(hostsFile(extra, "9.9.9.9 x\n"), /^127\.0\.0\.1\tlocalhost\n[^9]*1\.2\.3\.4\ta\n$/s);
});

test("DNS options take the place of the machine's lines of the same kind only", () => {
  const machine = "nameserver 1.1.1.1\nsearch corp\noptions ndots:1\n";
  assert.equal(resolvConf({}, machine), machine);
  assert.equal(resolvConf({ Dns: ["8.8.8.8"], DnsSearch: ["."] }, machine), "options ndots:1\nnameserver 8.8.8.8\n");
});

test("modes are Go's and paths keep what a client meant by their end", () => {
  assert.equal(goMode(0o040755), 2 ** 31 + 0o755);
  assert.equal(goMode(0o104755), 2 ** 23 + 0o755);
  assert.equal(goMode(0o120777), 2 ** 27 + 0o777);
  assert.equal(goMode(0o020666), 2 ** 26 + 2 ** 21 + 0o666);
  const paths = ["a", "/a/", "/a/.", "a/../../b", ".", "/", "", "/a//b/"].map(containerPath);
  assert.deepEqual(paths, ["/a", "/a/", "/a/.", "/b", "/", "/", "/", "/a/b/"]);
});

test("later environments win, and a name alone takes a variable away", () => {
  assert.deepEqual(mergeEnvironment(["A=1", "B=1"], ["B=2", "C=3", "A"]), ["B=2", "C=3"]);
});

test("an update changes what it names and leaves the rest", () => {
  const host: HostConfig = { Memory: 2 ** 30, RestartPolicy: policy("no"), CpuShares: 5 };
  const merged = mergeUpdate(host, {
    Memory: 2 ** 29,
    CpuShares: 0,
    RestartPolicy: policy("always"),
    MemorySwappiness: -1,
  });
  assert.deepEqual(merged, { Memory: 2 ** 29, RestartPolicy: policy("always"), CpuShares: 5 });
  assert.deepEqual(mergeUpdate(host, { RestartPolicy: policy("") }), host);
  assert.throws(() => mergeUpdate({ ...host, AutoRemove: true }, { RestartPolicy: policy("always") }), {
    code: "conflict",
  });
  assert.throws(() => mergeUpdate({ Memory: 2 ** 29, MemorySwap: 2 ** 29 }, { Memory: 2 ** 30 }), { code: "conflict" });
  assert.throws(() => mergeUpdate(host, { Privileged: true }), { code: "unsupported" });
  assert.throws(() => mergeUpdate(host, { Memory: 5 }), { code: "invalid_argument" });
});
