import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { EngineError, isError } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import {
  isMountPoint,
  makePrivate,
  mountAll,
  mountBindClassic,
  mountTable,
  parseMountInfo,
  unmountAll,
  unmountAllAsync,
} from "./mount.ts";
import { MS, mount } from "./mount-calls.ts";
import { mountOverlayClassic, type OverlayStep } from "./mount-overlay.ts";

const skip = process.getuid?.() === 0 ? false : "mounting needs root";
let root = "";
let target = "";
const fdCount = (): number => readdirSync("/proc/self/fd").length;

before(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "strata-mount-")));
  if (skip === false) {
    mount({ source: "scratch", target: root, type: "tmpfs", flags: 0 });
    mount({ target: root, flags: MS.PRIVATE });
  }
  target = join(root, "target");
  mkdirSync(target);
});
afterEach(() => {
  const left = mountTable().filter((entry) => entry.target.startsWith(`${root}/`));
  for (const entry of left) unmountAll(entry.target);
  assert.deepEqual(left, [], "a test left mounts");
});
after(() => {
  if (skip === false) unmountAll(root);
  rmSync(root, { recursive: true });
});

const entryAt = (path: string): ReturnType<typeof mountTable>[number] | undefined =>
  mountTable().findLast((entry) => entry.target === path);

/** An overlay step of `count` lowers, each with a file of its own and one that all have. */
function overlay(name: string, count: number, writable = true): OverlayStep {
  const lower = Array.from({ length: count }, (_, index) => {
    const path = join(root, name, `${index}`.padStart(64, "l"));
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, `own-${index}`), "");
    writeFileSync(join(path, "shared"), `${index}`);
    return path;
  });
  const [upper, work] = [join(root, name, "upper"), join(root, name, "work")];
  for (const path of [upper, work]) mkdirSync(path);
  return { kind: "overlay", lower, options: ["index=off"], ...(writable ? { upper, work } : {}) };
}

test("an overlay shows its layers, the topmost first, and writes to its upper directory", { skip }, () => {
  const step = overlay("plain", 3);
  mountAll([step], target);
  assert.ok(isMountPoint(target));
  assert.equal(readFileSync(join(target, "shared"), "utf8"), "0");
  assert.deepEqual(readdirSync(target).sort(), ["own-0", "own-1", "own-2", "shared"]);
  writeFileSync(join(target, "new"), "");
  assert.deepEqual(readdirSync(step.upper ?? ""), ["new"]);
  const entry = entryAt(target);
  assert.equal(entry?.propagation, "private");
  assert.ok(entry?.superOptions.includes(`upperdir=${step.upper}`));
  unmountAll(target);
  assert.ok(!isMountPoint(target));
});

test("an overlay without an upper directory is read-only, also of one layer", { skip }, () => {
  for (const count of [1, 2]) {
    mountAll([overlay(`readonly${count}`, count, false)], target);
    assert.throws(() => writeFileSync(join(target, "new"), ""), { code: "EROFS" });
    assert.equal(readFileSync(join(target, "shared"), "utf8"), "0");
    unmountAll(target);
  }
});

for (const count of [128, 300])
  test(`${count} layers are mounted, by both ways`, { skip }, () => {
    const step = overlay(`many${count}`, count);
    const fds = fdCount();
    for (const way of [() => mountAll([step], target), () => mountOverlayClassic(step, target)]) {
      way();
      assert.equal(readdirSync(target).length, count + 1);
      assert.equal(entryAt(target)?.propagation, "private");
      unmountAll(target);
    }
    assert.equal(fdCount(), fds);
  });

test("more layers than a page names are refused by the old way with a sentence", { skip }, () => {
  const step = overlay("toomany", 480);
  assert.throws(() => mountOverlayClassic(step, target), /cannot mount an overlay of 480 layers; Linux 6.8/);
  mountAll([step], target);
  unmountAll(target);
});

test("paths with colons, commas, backslashes, spaces and 300 bytes are taken as they are, by both ways", {
  skip,
}, () => {
  const names = ["a:b", "a,b", "a\\b", "a b", "a\\:b", "ü".repeat(100), `${"x".repeat(200)}/${"y".repeat(200)}`];
  for (const [index, name] of names.entries()) {
    const step = overlay(`strange${index}-${name}`, 2);
    for (const way of [() => mountAll([step], target), () => mountOverlayClassic(step, target)]) {
      way();
      writeFileSync(join(target, "new"), name);
      assert.equal(readFileSync(join(step.upper ?? "", "new"), "utf8"), name);
      assert.equal(readFileSync(join(target, "shared"), "utf8"), "0");
      unmountAll(target);
      rmSync(join(step.upper ?? "", "new"));
    }
  }
});

test("options reach the kernel: userxattr, volatile, nosuid", { skip }, () => {
  for (const way of [
    (step: OverlayStep) => mountAll([step], target),
    (step: OverlayStep) => mountOverlayClassic(step, target),
  ]) {
    const step = overlay(`options${way.length}${Math.random()}`, 2);
    way({ ...step, options: ["userxattr", "volatile", "index=off", "nosuid", "noatime"] });
    const entry = entryAt(target);
    for (const word of ["userxattr", /^(fsync=)?volatile$/])
      assert.ok(
        entry?.superOptions.some((option) => option.match(word)),
        String(word),
      );
    for (const word of ["nosuid", "noatime"]) assert.ok(entry?.options.includes(word), word);
    unmountAll(target);
  }
});

test("a bind is seen, read-only when asked, with what is below it when recursive", { skip }, () => {
  const source = join(root, "source");
  mkdirSync(join(source, "below"), { recursive: true });
  mount({ source: "inner", target: join(source, "below"), type: "tmpfs", flags: MS.NOSUID | MS.NODEV });
  writeFileSync(join(source, "below/file"), "");
  const ways = [
    (step: MountStep) => mountAll([step], target),
    (step: MountStep) => step.kind === "bind" && mountBindClassic(step, target),
  ];
  for (const way of ways) {
    way({ kind: "bind", source, readonly: false });
    assert.deepEqual(readdirSync(join(target, "below")), []);
    writeFileSync(join(target, "written"), "");
    unmountAll(target);
    way({ kind: "bind", source, readonly: true, recursive: true });
    assert.deepEqual(readdirSync(join(target, "below")), ["file"]);
    assert.throws(() => writeFileSync(join(target, "written"), ""), { code: "EROFS" });
    assert.equal(entryAt(target)?.propagation, "private");
    unmountAll(target);
    way({ kind: "bind", source: join(source, "below"), readonly: true });
    for (const word of ["ro", "nosuid", "nodev"]) assert.ok(entryAt(target)?.options.includes(word), word);
    unmountAll(target);
  }
  mountAll([{ kind: "bind", source, readonly: true, recursive: true }], target);
  assert.throws(() => writeFileSync(join(target, "below/new"), ""), { code: "EROFS" });
  unmountAll(target);
  writeFileSync(join(source, "below/still-writable"), "");
  unmountAll(join(source, "below"));
});

test("a filesystem is mounted with its options, flags among them", { skip }, () => {
  const options = ["ro", "nodev", "_netdev", "size=1m", "mode=0711"];
  mountAll([{ kind: "filesystem", type: "tmpfs", source: "tmp fs", options }], target);
  const entry = entryAt(target);
  assert.deepEqual([entry?.type, entry?.source], ["tmpfs", "tmp fs"]);
  assert.ok(entry?.options.includes("ro") && entry.options.includes("nodev"));
  assert.ok(entry?.superOptions.includes("size=1024k") && entry.superOptions.includes("mode=711"));
  unmountAll(target);
});

test("what a filesystem is told after its mount reaches it, or there is no mount", { skip }, () => {
  const step = { kind: "filesystem", type: "tmpfs", source: "tmp", options: ["nodev", "size=1m"] } as const;
  mountAll([{ ...step, more: [["size=2m"], ["mode=0711", "size=3m"]] }], target);
  const entry = entryAt(target);
  assert.ok(entry?.superOptions.includes("size=3072k") && entry.options.includes("nodev"));
  assert.equal(mountTable().filter((mount) => mount.target === target).length, 1);
  unmountAll(target);
  assert.throws(() => mountAll([{ ...step, more: [["size=2m"], ["nonsense=1"]] }], target), /EINVAL/);
  assert.throws(() => mountAll([{ ...step, more: [["x".repeat(4096)]] }], target), /longer than the kernel reads/);
  assert.ok(!isMountPoint(target));
});

for (const [how, unmount] of [
  ["at once", async (path: string) => unmountAll(path)],
  ["off the event loop", unmountAllAsync],
] as const)
  test(`steps stack on one target and unmount together, ${how}; nothing mounted is no error`, { skip }, async () => {
    const first: MountStep = { kind: "filesystem", type: "tmpfs", source: "first", options: [] };
    mountAll([first, overlay(`stacked${how.length}`, 2), { ...first, source: "third" }], target);
    assert.equal(mountTable().filter((entry) => entry.target === target).length, 3);
    await unmount(target);
    assert.ok(!isMountPoint(target));
    await unmount(target);
    await unmount(join(root, "absent"));
  });

test("a busy mount is taken away", { skip }, () => {
  mountAll([{ kind: "filesystem", type: "tmpfs", source: "busy", options: [] }], target);
  writeFileSync(join(target, "open"), "");
  const directory = process.cwd();
  process.chdir(target);
  try {
    unmountAll(target);
    assert.ok(!isMountPoint(target));
  } finally {
    process.chdir(directory);
  }
});

test("a failing step leaves no mount and no descriptor, and says why", { skip }, () => {
  const good: MountStep = { kind: "filesystem", type: "tmpfs", source: "good", options: [] };
  const base = overlay("failing", 2);
  const cases: readonly (readonly [MountStep, RegExp])[] = [
    [{ kind: "bind", source: join(root, "absent"), readonly: true }, /cannot mount \S+absent on \S+target: ENOENT/],
    [{ ...base, lower: [...base.lower, join(root, "absent")] }, /overlay of 3 layers on \S+target: ENOENT.*absent/],
    [{ ...base, options: ["nonsense=1"] }, /EINVAL.*nonsense/],
    [{ ...base, work: join(root, "absent") }, /ENOENT/],
    [{ ...base, options: ["bind"] }, /the mount option "bind" cannot be used here/],
    [{ kind: "filesystem", type: "nosuchfs", source: "x", options: [] }, /ENODEV/],
    [{ kind: "filesystem", type: "tmpfs", source: "x", options: ["size=abc"] }, /EINVAL/],
  ];
  const fds = fdCount();
  for (const [step, expected] of cases) {
    assert.throws(
      () => mountAll([good, step], target),
      (error) => {
        assert.ok(error instanceof EngineError);
        assert.match(error.message, expected);
        return true;
      },
    );
    assert.ok(!isMountPoint(target), expected.source);
  }
  assert.equal(fdCount(), fds);
  const unknown: MountStep = { kind: "filesystem", type: "nosuchfs", source: "x", options: [] };
  assert.throws(
    () => mountAll([unknown], target),
    (error) => isError(error, "unsupported"),
  );
});

test("a message holds no option and no password", { skip }, () => {
  const options = ["username=joe", "password=secret1"];
  const step: MountStep = { kind: "filesystem", type: "nosuchfs", source: "//joe:secret2@server/share", options };
  assert.throws(
    () => mountAll([step], target),
    (error) => error instanceof Error && !error.message.includes("secret"),
  );
});

test("a mount below a shared one is private, and none below a private directory reaches a peer", { skip }, () => {
  const shared = join(root, "shared");
  const peer = join(root, "peer");
  for (const path of [shared, peer]) mkdirSync(path);
  mount({ source: "shared", target: shared, type: "tmpfs", flags: 0 });
  mount({ target: shared, flags: 1 << 20 });
  mount({ source: shared, target: peer, flags: MS.BIND });
  for (const path of ["a", "home/b"]) mkdirSync(join(shared, path), { recursive: true });
  const tmpfs: MountStep = { kind: "filesystem", type: "tmpfs", source: "t", options: [] };
  for (const step of [tmpfs, overlay("shares", 2), { kind: "bind", source: target, readonly: true } as const]) {
    mountAll([step], join(shared, "a"));
    assert.equal(entryAt(join(shared, "a"))?.propagation, "private");
    unmountAll(join(shared, "a"));
    unmountAll(join(peer, "a"));
  }
  makePrivate(join(shared, "home"));
  makePrivate(join(shared, "home"));
  // The bind itself reached the peer; what is mounted below it does not.
  mountAll([tmpfs], join(shared, "home/b"));
  assert.ok(!existsSync(join(peer, "home/b/x")) && !isMountPoint(join(peer, "home/b")));
  for (const path of ["home/b", "home", ""]) unmountAll(join(shared, path));
  for (const path of ["home", ""]) unmountAll(join(peer, path));
});

test("mountinfo is decoded: escapes, optional fields, options", () => {
  const lines = [
    "36 35 98:0 /mnt1 /mnt\\0402/\\303\\274\\134 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue",
    "37 36 0:30 / /ov rw - overlay over\\011lay rw,lowerdir=/a:/b\\054c,upperdir=/u",
    "38 36 0:31 / /un rw unbindable - tmpfs none rw",
  ];
  const [first, second, third] = parseMountInfo(Buffer.from(`${lines.join("\n")}\n`));
  assert.deepEqual(first, {
    id: 36,
    parent: 35,
    device: "98:0",
    root: "/mnt1",
    target: "/mnt 2/ü\\",
    options: ["rw", "noatime"],
    type: "ext3",
    source: "/dev/root",
    superOptions: ["rw", "errors=continue"],
    propagation: "shared,slave",
  });
  assert.deepEqual([second?.source, second?.propagation], ["over\tlay", "private"]);
  assert.deepEqual(second?.superOptions, ["rw", "lowerdir=/a:/b,c", "upperdir=/u"]);
  assert.equal(third?.propagation, "unbindable");
});
