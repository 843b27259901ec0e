import assert from "node:assert/strict";
import { test } from "node:test";
import { missingOf, refuseMissing, sentenceOf } from "./requirements.ts";

const program = (name: string) => ({ kind: "program", name, advice: `install the package ${name}` }) as const;
const filesystem = (name: string) => ({ kind: "filesystem", name, advice: "load its module" }) as const;

test("programs and filesystems that are there are not missing", async () => {
  assert.deepEqual(await missingOf([program("mount"), program("sh"), filesystem("tmpfs"), filesystem("proc")]), []);
});

test("what is missing is named with what to do, and mounting is refused in the same words", async () => {
  const needs = [program("mount"), program("no-such-program"), filesystem("nosuchfs")];
  const missing = await missingOf(needs);
  assert.deepEqual(missing, needs.slice(1));
  const sentence = sentenceOf("far", missing);
  assert.equal(
    sentence,
    "the volume driver far needs the program no-such-program (install the package no-such-program) and the filesystem nosuchfs in the kernel (load its module)",
  );
  await assert.rejects(refuseMissing({ name: "far", requirements: needs }), { code: "unsupported", message: sentence });
  await refuseMissing({ name: "near" });
});
