import assert from "node:assert/strict";
import { test } from "node:test";
import type { RunConfig } from "../base/oci.ts";
import { commandLine, mergeRunConfig } from "./merge-config.ts";

const commands: readonly {
  readonly says: string;
  readonly image: RunConfig;
  readonly request: RunConfig;
  readonly argv: string;
}[] = [
  { says: "the image's command", image: { Cmd: ["sh"] }, request: {}, argv: "sh" },
  { says: "the image's both", image: { Entrypoint: ["e"], Cmd: ["c"] }, request: {}, argv: "e c" },
  {
    says: "a command under the image's entrypoint",
    image: { Entrypoint: ["e"], Cmd: ["c"] },
    request: { Cmd: ["x"] },
    argv: "e x",
  },
  {
    says: "an entrypoint without the image's command",
    image: { Entrypoint: ["e"], Cmd: ["c"] },
    request: { Entrypoint: ["n"] },
    argv: "n",
  },
  {
    says: "an empty entrypoint takes the image's away",
    image: { Entrypoint: ["e"], Cmd: ["c"] },
    request: { Entrypoint: [""], Cmd: ["x"] },
    argv: "x",
  },
  {
    says: "null members say nothing",
    image: { Entrypoint: ["e"] },
    request: { Entrypoint: null, Cmd: null },
    argv: "e",
  },
];

for (const { says, image, request, argv } of commands)
  test(`what runs: ${says}`, () => {
    const { path, args } = commandLine(mergeRunConfig(image, request));
    assert.equal([path, ...args].join(" "), argv);
  });

test("nothing to run is refused with Docker's text", () => {
  const expected = { code: "invalid_argument", message: "No command specified" };
  assert.throws(() => mergeRunConfig({}, {}), expected);
  assert.throws(() => mergeRunConfig({ Entrypoint: ["e"] }, { Entrypoint: [""] }), expected);
});

test("Env merges by key, Labels, Volumes and ports by union, and the request wins", () => {
  const merged = mergeRunConfig(
    {
      Cmd: ["sh"],
      Env: ["PATH=/bin", "A=image", "B=image"],
      Labels: { a: "image", b: "image" },
      Volumes: { "/v": {} },
      ExposedPorts: { "80/tcp": {} },
      User: "image",
      WorkingDir: "/image",
      StopSignal: "SIGQUIT",
      StopTimeout: 3,
      Healthcheck: { Test: ["CMD", "true"], Interval: 5, Retries: 2 },
    },
    {
      Env: ["A=mine", "C=", "B"],
      Labels: { a: "mine" },
      Volumes: { "/w": {} },
      User: "me",
      Healthcheck: { Interval: 9, Retries: 0 },
    },
  );
  assert.deepEqual(merged.Env, ["A=mine", "C=", "B", "PATH=/bin"]);
  assert.deepEqual(merged.Labels, { a: "mine", b: "image" });
  assert.deepEqual(Object.keys(merged.Volumes ?? {}), ["/v", "/w"]);
  assert.deepEqual(Object.keys(merged.ExposedPorts ?? {}), ["80/tcp"]);
  assert.deepEqual(
    [merged.User, merged.WorkingDir, merged.StopSignal, merged.StopTimeout],
    ["me", "/image", "SIGQUIT", 3],
  );
  assert.deepEqual(merged.Healthcheck, { Test: ["CMD", "true"], Interval: 9, Retries: 2 });
});
