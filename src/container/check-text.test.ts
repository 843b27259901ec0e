import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTexts, checkWords } from "./check-text.ts";
import type { HostConfig } from "./container.ts";

test("texts that the kernel takes are accepted", () =>
  checkTexts(
    { Cmd: ["sh", "-c", "x".repeat(131_071)], Env: ["A=b"], Hostname: "web_1.example", Labels: { a: "line\nline" } },
    { GroupAdd: ["audio"], Sysctls: { "net.core.somaxconn": "1" } },
  ));

test("a NUL is refused wherever it stands, and the message says where", () => {
  const table: readonly (readonly [Parameters<typeof checkTexts>[0], HostConfig, RegExp])[] = [
    [{ Env: ["A=\0"] }, {}, /^Config\.Env\.0 has a NUL byte/],
    [{ Cmd: ["a", "\0"] }, {}, /^Config\.Cmd\.1 has a NUL/],
    [{ Labels: { "a\0": "" } }, {}, /^Config\.Labels has a NUL/],
    [{}, { CgroupParent: "a\0" }, /^HostConfig\.CgroupParent has a NUL/],
    [{}, { Sysctls: { x: "\0" } }, /^HostConfig\.Sysctls\.x has a NUL/],
  ];
  for (const [config, host, message] of table)
    assert.throws(() => checkTexts(config, host), { code: "invalid_argument", message });
});

test("what is too long for the kernel is refused", () => {
  const fine = { command: ["true"], env: [], workingDir: "/", user: "root" };
  const long = "x".repeat(131_072);
  for (const wrong of [
    { command: ["x".repeat(4096)] },
    { command: ["sh", long] },
    { env: [`A=${long}`] },
    { workingDir: `/${long}` },
    { user: long },
  ])
    assert.throws(() => checkWords({ ...fine, ...wrong }), {
      code: "invalid_argument",
      message: /too long: \d+ bytes/,
    });
});

test("a hostname is one word of at most 64 bytes", () => {
  for (const Hostname of ["a b", "a\nb", "a/b", "x".repeat(65)])
    assert.throws(() => checkTexts({ Hostname }, {}), { code: "invalid_argument", message: /hostname/ }, Hostname);
  assert.throws(() => checkTexts({ Domainname: "a\n1.2.3.4 evil" }, {}), { message: /invalid domainname format/ });
});
