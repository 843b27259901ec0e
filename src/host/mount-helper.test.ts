import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isMountPoint, mountAllAsync, mountTable, unmountAll } from "./mount.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";

async function withTarget(use: (target: string) => Promise<void>): Promise<void> {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "mount-helper-")));
  const target = join(root, "target");
  mkdirSync(target);
  try {
    await use(target);
  } finally {
    unmountAll(target);
    rmSync(root, { recursive: true });
  }
}

const helper = (program: string, ...args: string[]) => ({ kind: "helper", program, args, directory: "/" }) as const;

test("what a program mounts on the target is private", { skip }, () =>
  withTarget(async (target) => {
    await mountAllAsync([helper("mount", "-t", "tmpfs", "-o", "size=64k", "scratch")], target);
    const found = mountTable().filter((entry) => entry.target === target);
    assert.deepEqual(
      found.map(({ type, propagation }) => [type, propagation]),
      [["tmpfs", "private"]],
    );
  }),
);

test("a program that fails is told with its last words, and what it left is taken away", { skip }, () =>
  withTarget(async (target) => {
    const script = 'mount -t tmpfs scratch "$0"; echo "first" >&2; echo "the moon is wrong" >&2; exit 3';
    await assert.rejects(mountAllAsync([helper("sh", "-c", script)], target), {
      code: "internal",
      message: `cannot mount a filesystem of sh on ${target}: sh ended with code 3: the moon is wrong`,
    });
    assert.equal(isMountPoint(target), false);
  }),
);

test("a program that is not there is unsupported, and the message says what to do", { skip }, () =>
  withTarget(async (target) => {
    await assert.rejects(mountAllAsync([helper("no-such-program")], target), {
      code: "unsupported",
      message: /install it, or put its directory in PATH/,
    });
  }),
);
