import assert from "node:assert/strict";
import { test } from "node:test";
import type { ErrorCode } from "../base/errors.ts";
import { checkHostConfig, checkRunConfig } from "./check-config.ts";
import type { HostConfig } from "./container.ts";
import { parseSignal } from "./signal-name.ts";

/** What docker CLI 28 sends when nobody asks for anything. */
const usual: HostConfig = {
  Binds: null,
  ContainerIDFile: "",
  LogConfig: { Type: "", Config: {} },
  NetworkMode: "default",
  PortBindings: {},
  RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
  AutoRemove: false,
  ConsoleSize: [24, 80],
  CgroupnsMode: "",
  Dns: [],
  IpcMode: "",
  Links: null,
  PublishAllPorts: false,
  ShmSize: 0,
  Isolation: "",
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  MemorySwappiness: -1,
  OomKillDisable: false,
  PidsLimit: 0,
  Ulimits: [],
  DeviceRequests: null,
};

test("what the CLI sends without options is accepted", () => checkHostConfig(usual));

const refusals: readonly (readonly [HostConfig, ErrorCode, RegExp])[] = [
  [{ PortBindings: { "80/tcp": [{ HostPort: "80" }] } }, "unsupported", /publishing ports/],
  [{ PublishAllPorts: true }, "unsupported", /publishing ports/],
  [{ Links: ["a:b"] }, "unsupported", /links/],
  [{ DeviceRequests: [{ Count: -1 }] }, "unsupported", /gpus/],
  [{ BlkioWeight: 10 }, "unsupported", /HostConfig.BlkioWeight/],
  [{ OomKillDisable: true }, "unsupported", /OomKillDisable/],
  [{ MemorySwappiness: 10 }, "unsupported", /swappiness/],
  [{ SomethingNew: "x" }, "unsupported", /SomethingNew/],
  [{ IpcMode: "container:x" }, "unsupported", /IPC mode/],
  [{ IpcMode: "shareable" }, "unsupported", /IPC mode/],
  [{ UsernsMode: "private" }, "unsupported", /user namespace/],
  [{ Isolation: "hyperv" }, "unsupported", /isolation/],
  [{ LogConfig: { Type: "syslog", Config: null } }, "unsupported", /no log driver named 'syslog'/],
  [{ LogConfig: { Type: "json-file", Config: { "max-file": "3" } } }, "unsupported", /max-file=3/],
  [{ LogConfig: { Type: "", Config: { "max-size": "big" } } }, "invalid_argument", /invalid size: 'big'/],
  [{ Memory: 1024 }, "invalid_argument", /Minimum memory limit allowed is 6MB/],
  [{ MemorySwap: 2 ** 30 }, "invalid_argument", /always set the Memory limit/],
  [{ Memory: 2 ** 30, MemorySwap: 2 ** 29 }, "invalid_argument", /should be larger than memory limit/],
  [{ NanoCpus: 1e9, CpuPeriod: 1e5 }, "invalid_argument", /Nano CPUs and CPU Period/],
  [{ NanoCpus: 1e15 }, "invalid_argument", /range of CPUs/],
  [{ MemorySwap: -2 }, "invalid_argument", /memoryswap/],
  [{ CpuShares: -1 }, "invalid_argument", /CPU shares/],
  [{ CpuQuota: -7 }, "invalid_argument", /CPU cfs quota/],
  [{ CpusetCpus: "x" }, "invalid_argument", /^Invalid value x for cpuset cpus$/],
  [{ CpusetCpus: "0,5-3" }, "invalid_argument", /^Invalid value 0,5-3 for cpuset cpus$/],
  [{ CpusetCpus: "0,9999" }, "invalid_argument", /^Requested CPUs are not available - requested 0,9999, available: 0/],
  [{ CpusetMems: "900" }, "invalid_argument", /^Requested memory nodes are not available - requested 900/],
  [{ Runtime: "kata" }, "invalid_argument", /^unknown or invalid runtime name: kata$/],
  [{ Ulimits: [{ Name: "odd", Soft: 1, Hard: 1 }] }, "invalid_argument", /invalid ulimit type: odd/],
  [{ Ulimits: [{ Name: "nofile", Soft: 5, Hard: 1 }] }, "invalid_argument", /less than or equal to hard limit: 5 > 1/],
  [{ Ulimits: [{ Name: "core", Soft: -1, Hard: 1 }] }, "invalid_argument", /less than or equal to hard limit/],
  [{ ShmSize: -1 }, "invalid_argument", /SHM size/],
  [{ OomScoreAdj: 1001 }, "invalid_argument", /range for oom score adj/],
  [{ RestartPolicy: { Name: "always", MaximumRetryCount: 2 } }, "invalid_argument", /maximum retry count/],
  [{ RestartPolicy: { Name: "on-failure", MaximumRetryCount: -1 } }, "invalid_argument", /cannot be negative/],
  [{ AutoRemove: true, RestartPolicy: { Name: "always", MaximumRetryCount: 0 } }, "invalid_argument", /AutoRemove/],
];

for (const [asked, code, message] of refusals)
  test(`refused, not ignored: ${JSON.stringify(asked)}`, () =>
    assert.throws(() => checkHostConfig({ ...usual, ...asked }), { code, message }));

test("limits at their edges are accepted", () =>
  checkHostConfig({
    ...usual,
    Runtime: "runc",
    Memory: 2 ** 23,
    MemorySwap: -1,
    CpuQuota: -1,
    CpusetCpus: "0,0-0",
    CpusetMems: "0",
    Ulimits: [{ Name: "core", Soft: -1, Hard: -1 }],
  }));

test("run configs that cannot start are refused", () => {
  checkRunConfig({ WorkingDir: "/a", Env: ["A=b", "C"], StopSignal: "SIGTERM" });
  assert.throws(() => checkRunConfig({ WorkingDir: "a" }), /needs to be an absolute path/);
  assert.throws(() => checkRunConfig({ Env: ["=x"] }), /invalid environment variable/);
  assert.throws(() => checkRunConfig({ MacAddress: "92:d0:c6:0a:29:33" }), { code: "unsupported", message: /MAC/ });
  assert.throws(() => checkRunConfig({ StopSignal: "SIGNOPE" }), /invalid signal: SIGNOPE/);
});

test("signals are read by name, number and offset", () => {
  const table: readonly (readonly [string, number])[] = [
    ["SIGTERM", 15],
    ["term", 15],
    ["9", 9],
    ["kill", 9],
    ["RTMIN+3", 37],
    ["SIGRTMAX-1", 63],
    ["rtmin", 34],
  ];
  for (const [text, number] of table) assert.equal(parseSignal(text), number, text);
  for (const wrong of ["0", "65", "", "TERMINATE", "-9", "RTMIN+99"])
    assert.throws(() => parseSignal(wrong), { code: "invalid_argument" }, wrong);
});
