import assert from "node:assert/strict";
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemCode } from "../base/errors.ts";
import * as sys from "./sys.ts";

const { AT_FDCWD, AT_REMOVEDIR, O, RESOLVE } = sys;
let directory = "";
let dirFd = -1;

before(() => {
  directory = mkdtempSync(join(tmpdir(), "strata-sys-"));
  dirFd = sys.openat2(AT_FDCWD, directory, { flags: O.RDONLY | O.DIRECTORY });
});
after(() => {
  sys.closeFd(dirFd);
  rmSync(directory, { recursive: true });
});

const codeOf = (action: () => unknown): string | undefined => {
  try {
    action();
  } catch (error) {
    return systemCode(error);
  }
  return "nothing was thrown";
};

test("openat2 keeps a lookup below the directory", () => {
  mkdirSync(join(directory, "root/etc"), { recursive: true });
  writeFileSync(join(directory, "root/etc/passwd"), "inside");
  symlinkSync("/etc/passwd", join(directory, "root/link"));
  symlinkSync("../../x", join(directory, "root/up"));
  const root = sys.openat2(dirFd, "root", { flags: O.PATH | O.DIRECTORY });
  const fd = sys.openat2(root, "link", { flags: O.RDONLY, resolve: RESOLVE.IN_ROOT });
  assert.equal(readFileSync(fd, "utf8"), "inside");
  sys.closeFd(fd);
  const open =
    (path: string, resolve: number): (() => number) =>
    () =>
      sys.openat2(root, path, { flags: O.RDONLY, resolve });
  assert.equal(codeOf(open("link", RESOLVE.BENEATH)), "EXDEV");
  assert.equal(codeOf(open("up", RESOLVE.BENEATH)), "EXDEV");
  assert.equal(codeOf(open("link", RESOLVE.NO_SYMLINKS)), "ELOOP");
  assert.equal(codeOf(open("absent", 0)), "ENOENT");
  sys.closeFd(root);
});

test("descriptors do not pass to programs", () => {
  const flags = readFileSync(`/proc/self/fdinfo/${dirFd}`, "utf8").match(/flags:\s+(\d+)/)?.[1] ?? "0";
  assert.equal(Number.parseInt(flags, 8) & O.CLOEXEC, O.CLOEXEC);
});

test("an error names the call, the code and the file", () => {
  const call = (): void => sys.mkdirat(dirFd, "no/where", 0o755);
  assert.throws(call, {
    code: "ENOENT",
    errno: 2,
    syscall: "mkdirat",
    path: "no/where",
    message: /^ENOENT: no such file/,
  });
});

test("a NUL byte in a name is refused and truncates nothing", () => {
  writeFileSync(join(directory, "kept"), "");
  assert.equal(
    codeOf(() => sys.unlinkat(dirFd, "kept\0.txt")),
    "EINVAL",
  );
  assert.equal(
    codeOf(() => sys.unlinkat(dirFd, Buffer.from("kept\0"))),
    "EINVAL",
  );
  assert.ok(statSync(join(directory, "kept")).isFile());
});

test("names are bytes and need not be UTF-8", () => {
  const name = Buffer.from([0xff, 0xfe, 0x2e, 0xe9]);
  sys.mkdirat(dirFd, "bytes", 0o755);
  const fd = sys.openat2(dirFd, "bytes", { flags: O.RDONLY | O.DIRECTORY });
  sys.mkdirat(fd, name, 0o755);
  sys.mkdirat(fd, "ünïcode-日本", 0o755);
  const names = sys
    .readDirectory(fd)
    .map((entry) => entry.toString("latin1"))
    .sort();
  assert.deepEqual(names, [name.toString("latin1"), Buffer.from("ünïcode-日本").toString("latin1")].sort());
  sys.unlinkat(fd, name, AT_REMOVEDIR);
  sys.closeFd(fd);
});

test("a directory of thousands of long names is read whole, and again", () => {
  sys.mkdirat(dirFd, "many", 0o755);
  const fd = sys.openat2(dirFd, "many", { flags: O.RDONLY | O.DIRECTORY });
  const expected = Array.from({ length: 2000 }, (_, index) => `${index}`.padStart(200, "n"));
  for (const name of expected) sys.mknodat(fd, name, 0o100644, 0, 0);
  for (let round = 0; round < 2; round++)
    assert.deepEqual(sys.readDirectory(fd).map(String).sort(), expected.toSorted());
  sys.closeFd(fd);
});

test("devices keep large major and minor numbers", (context) => {
  if (process.getuid?.() !== 0) return context.skip("needs root");
  for (const [major, minor] of [
    [0, 0],
    [1, 3],
    [259, 1048575],
    [4095, 300],
  ] as const) {
    sys.mknodat(dirFd, "device", 0o020600, major, minor);
    const stat = sys.statat(dirFd, "device");
    assert.deepEqual([stat.rdevMajor, stat.rdevMinor, stat.mode & 0o170000], [major, minor, 0o020000]);
    sys.unlinkat(dirFd, "device");
  }
});

test("stat says what Node says", () => {
  const path = join(directory, "stat");
  writeFileSync(path, "12345");
  sys.linkat(dirFd, "stat", dirFd, "stat2");
  for (const mtime of [1_600_000_000_123_456_789n, -1n, -5_000_000_001n, 4_300_000_000_000_000_000n]) {
    sys.utimensat(dirFd, "stat", 0n, mtime);
    const ours = sys.statat(dirFd, "stat");
    const theirs = lstatSync(path, { bigint: true });
    assert.equal(BigInt(ours.mtimeSec) * 1_000_000_000n + BigInt(ours.mtimeNsec), mtime);
    assert.deepEqual(
      [BigInt(ours.mode), BigInt(ours.size), ours.ino, ours.dev, BigInt(ours.nlink), BigInt(ours.blocks)],
      [theirs.mode, theirs.size, theirs.ino, theirs.dev, theirs.nlink, theirs.blocks],
    );
  }
  sys.utimensat(dirFd, "stat", 7n, undefined);
  assert.equal(sys.statat(dirFd, "stat").mtimeSec, 4_300_000_000);
  const fd = openSync(path, "r");
  assert.equal(sys.statat(fd, "").ino, sys.statat(dirFd, "stat2").ino);
  closeSync(fd);
});

test("owner, mode and times of a symlink are its own, and its target is left alone", () => {
  writeFileSync(join(directory, "target"), "");
  chmodSync(join(directory, "target"), 0o640);
  sys.symlinkat("target", dirFd, "pointer");
  const before = sys.statat(dirFd, "target");
  sys.fchmodat(dirFd, "pointer", 0o777);
  sys.fchmodatByDescriptor(dirFd, "pointer", 0o777);
  sys.utimensat(dirFd, "pointer", 5n, 5n);
  if (process.getuid?.() === 0) sys.fchownat(dirFd, "pointer", 12, 34);
  assert.deepEqual(sys.statat(dirFd, "target"), before);
  assert.equal(sys.statat(dirFd, "pointer").mtimeNsec, 5);
  if (process.getuid?.() === 0) assert.equal(sys.statat(dirFd, "pointer").gid, 34);
  assert.equal(sys.statat(dirFd, "pointer", true).ino, before.ino);
  assert.equal(String(sys.readlinkat(dirFd, "pointer")), "target");
});

test("setuid, setgid and sticky bits are set, with and without fchmodat2", () => {
  sys.mknodat(dirFd, "mode", 0o100600, 0, 0);
  for (const change of [sys.fchmodat, sys.fchmodatByDescriptor]) {
    change(dirFd, "mode", 0o7751);
    assert.equal(sys.statat(dirFd, "mode").mode, 0o107751);
    const fd = sys.openat2(dirFd, "mode", { flags: O.PATH });
    change(fd, "", 0o4600);
    assert.equal(sys.statat(fd, "").mode, 0o104600);
    sys.closeFd(fd);
  }
  assert.equal(
    codeOf(() => sys.fchmodat(dirFd, "absent", 0o600)),
    "ENOENT",
  );
});

test("xattrs of files, of descriptors and of symlinks", (context) => {
  if (process.getuid?.() !== 0) return context.skip("needs root");
  const name = Buffer.from([0x78, 0xff]);
  sys.mknodat(dirFd, name, 0o100600, 0, 0);
  sys.symlinkat(name, dirFd, "xlink");
  const value = Buffer.from([0, 1, 255]);
  sys.setXattr(dirFd, name, "user.one", value);
  sys.setXattr(dirFd, "xlink", "trusted.own", Buffer.alloc(0));
  assert.deepEqual(sys.listXattrs(dirFd, name), ["user.one"]);
  assert.deepEqual(sys.listXattrs(dirFd, "xlink"), ["trusted.own"]);
  assert.deepEqual(sys.getXattr(dirFd, name, "user.one"), value);
  assert.deepEqual(sys.getXattr(dirFd, "xlink", "trusted.own"), Buffer.alloc(0));
  assert.equal(sys.getXattr(dirFd, "xlink", "user.one"), undefined);
  const fd = sys.openat2(dirFd, name, { flags: O.PATH | O.NOFOLLOW });
  assert.deepEqual(sys.getXattr(fd, "", "user.one"), value);
  sys.removeXattr(fd, "", "user.one");
  assert.deepEqual(sys.listXattrs(fd, ""), []);
  assert.equal(
    codeOf(() => sys.removeXattr(dirFd, name, "user.one")),
    "ENODATA",
  );
  sys.closeFd(fd);
});

test("rename can refuse to replace and can exchange", () => {
  writeFileSync(join(directory, "a"), "a");
  writeFileSync(join(directory, "b"), "b");
  assert.equal(
    codeOf(() => sys.renameat2(dirFd, "a", dirFd, "b", sys.RENAME.NOREPLACE)),
    "EEXIST",
  );
  sys.renameat2(dirFd, "a", dirFd, "b", sys.RENAME.EXCHANGE);
  assert.equal(readFileSync(join(directory, "a"), "utf8"), "b");
  sys.renameat2(dirFd, "a", dirFd, "c");
  assert.equal(
    codeOf(() => sys.statat(dirFd, "a")),
    "ENOENT",
  );
});

test("a name longer than any buffer is an error, not a crash", () => {
  assert.equal(
    codeOf(() => sys.mkdirat(dirFd, "x".repeat(100_000), 0o755)),
    "ENAMETOOLONG",
  );
  sys.symlinkat("y".repeat(4095), dirFd, "long");
  assert.equal(readlinkSync(join(directory, "long")).length, 4095);
});
