import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MountPoint, MountRequest } from "../base/mount-point.ts";
import { missingSource, parseBind, parseMountRequest, parseTmpfs, parseVolume } from "./parse-mounts.ts";
import { tmpfsOptions } from "./tmpfs-options.ts";

/** What a stock dockerd answered for each specification: what `docker inspect` shows, or its error. */
type Shown = readonly [type: string, source: string, destination: string, readWrite: boolean, propagation: string];

const bind = (source: string, destination: string, readWrite = true, propagation = "rprivate"): Shown => [
  "bind",
  source,
  destination,
  readWrite,
  propagation,
];
const volume = (name: string, destination: string, readWrite = true): Shown => [
  "volume",
  name,
  destination,
  readWrite,
  "",
];

const shown = (point: MountPoint): Shown => [
  point.type,
  point.name ?? point.source,
  point.destination,
  point.readWrite,
  point.propagation,
];

const valid: Readonly<Record<string, Shown>> = {
  "/home": volume("", "/home"),
  "/home:/home": bind("/home", "/home"),
  "/home:/something/else": bind("/home", "/something/else"),
  "/with space": volume("", "/with space"),
  "/home:/with space": bind("/home", "/with space"),
  "relative:/absolute-path": volume("relative", "/absolute-path"),
  "hostPath:/containerPath:ro": volume("hostPath", "/containerPath", false),
  "/hostPath:/containerPath:rw": bind("/hostPath", "/containerPath"),
  "/rw:/ro": bind("/rw", "/ro"),
  ...Object.fromEntries(
    ["shared", "rshared", "slave", "rslave", "private", "rprivate"].map((mode) => [
      `/hostPath:/containerPath:${mode}`,
      bind("/hostPath", "/containerPath", true, mode),
    ]),
  ),
  "/hostPath:/containerPath:ro,shared": bind("/hostPath", "/containerPath", false, "shared"),
  "/hostPath:/containerPath:ro,slave": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:ro,private": bind("/hostPath", "/containerPath", false, "private"),
  "/hostPath:/containerPath:ro,z,shared": bind("/hostPath", "/containerPath", false, "shared"),
  "/hostPath:/containerPath:ro,Z,slave": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:Z,ro,slave": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:slave,Z,ro": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:Z,slave,ro": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:slave,ro,Z": bind("/hostPath", "/containerPath", false, "slave"),
  "/hostPath:/containerPath:rslave,ro,Z": bind("/hostPath", "/containerPath", false, "rslave"),
  "/hostPath:/containerPath:ro,rshared,Z": bind("/hostPath", "/containerPath", false, "rshared"),
  "/hostPath:/containerPath:ro,Z,rprivate": bind("/hostPath", "/containerPath", false, "rprivate"),
  "name:/d:nocopy": volume("name", "/d"),
  "name:/d:nocopy,ro,z": volume("name", "/d", false),
  "name:/d:": volume("name", "/d"),
  "/a:/b:cached": bind("/a", "/b"),
  "/a/../b/:/c/./d//": bind("/b", "/c/d"),
};

const badSpec = (spec: string, more = ""): readonly [string, string] => [
  spec,
  `invalid volume specification: '${spec}'${more}`,
];
const notAbsolute = (spec: string, type: string, path: string): readonly [string, string] =>
  badSpec(spec, `: invalid mount config for type "${type}": invalid mount path: '${path}' mount path must be absolute`);
const isRoot = ": invalid mount config for type \"volume\": invalid specification: destination can't be '/'";

const invalid: readonly (readonly [spec: string, message: string])[] = [
  ...["", ":", "/tmp:", ":test", ":/test", "tmp:", ":test:", "::", ":::", "/tmp:::", ":/tmp::"].map((s) => badSpec(s)),
  ...["/path:rw", "/path:ro", "/rw:rw", "path:ro", "/path:shared", "/path:slave", "/path:private"].map((s) =>
    badSpec(s),
  ),
  notAbsolute("./", "volume", "./"),
  notAbsolute("../", "volume", "../"),
  notAbsolute("/:../", "bind", "../"),
  notAbsolute("/:path", "bind", "path"),
  ["/path:/path:sw", "invalid mode: sw"],
  ["/path:/path:rwz", "invalid mode: rwz"],
  ["/path:/path:ro,rshared,rslave", "invalid mode: ro,rshared,rslave"],
  ["/path:/path:ro,z,rshared,rslave", "invalid mode: ro,z,rshared,rslave"],
  ["name:/d:rw,rw", "invalid mode: rw,rw"],
  ["/a:/b:ro,", "invalid mode: ro,"],
  ...["shared", "rshared", "slave", "rslave", "private", "rprivate"].map((mode) =>
    badSpec(
      `name:/absolute-path:${mode}`,
      ': invalid mount config for type "volume": field BindOptions must not be specified',
    ),
  ),
  badSpec("/h:/d:nocopy", ': invalid mount config for type "bind": field VolumeOptions must not be specified'),
  badSpec("name:/..", isRoot),
  badSpec("name:/a/../", isRoot),
  badSpec("name://", isRoot),
];

const refusal = (message: string) => ({ code: "invalid_argument", message });

describe("-v", () => {
  for (const [spec, expected] of Object.entries(valid))
    test(`${JSON.stringify(spec)} means what dockerd makes of it`, () => {
      assert.deepEqual(shown(parseBind(spec).point), expected);
    });

  for (const [spec, message] of invalid)
    test(`${JSON.stringify(spec)} is refused in dockerd's words`, () => {
      assert.throws(() => parseBind(spec), refusal(message));
    });

  test("the mode is kept as it was written; a local volume without one shows z", () => {
    assert.equal(parseBind("/a:/b:ro,Z").point.mode, "ro,Z");
    assert.equal(parseBind("/a:/b").point.mode, "");
    assert.equal(parseBind("name:/b").point.mode, "z");
    assert.equal(parseBind("name:/b", { volumeDriver: "nfs" }).point.mode, "");
  });

  test("a volume is filled from the image unless nocopy says otherwise, a bind never", () => {
    assert.equal(parseBind("name:/b").point.copyUp, true);
    assert.equal(parseBind("name:/b:nocopy").point.copyUp, false);
    assert.equal(parseBind("/a:/b").point.copyUp, false);
  });

  test("--volume-driver is for volumes, not for binds", () => {
    assert.equal(parseBind("name:/b", { volumeDriver: "nfs" }).point.driver, "nfs");
    assert.equal(parseBind("/a:/b", { volumeDriver: "nfs" }).point.driver, undefined);
    assert.equal(parseVolume("/b", { volumeDriver: "nfs" }).point.driver, "nfs");
  });

  test("a missing bind source is made, with --mount only when asked", () => {
    const request: MountRequest = { Type: "bind", Source: "/a", Target: "/b" };
    assert.equal(parseBind("/a:/b").createSource, true);
    assert.equal(parseMountRequest(request).createSource, false);
    assert.equal(parseMountRequest({ ...request, BindOptions: { CreateMountpoint: true } }).createSource, true);
    assert.equal(
      missingSource(parseMountRequest(request).point).message,
      'invalid mount config for type "bind": bind source path does not exist: /a',
    );
  });

  test("VOLUME of an image may be relative, as Docker allows; it is below the root", () => {
    assert.equal(parseVolume("data/../x").point.destination, "/x");
    assert.equal(parseVolume("/data").point.anonymous, true);
    assert.throws(() => parseVolume("/.."), refusal("invalid specification: destination can't be '/'"));
  });
});

const type = (name: string, message: string): string => `invalid mount config for type "${name}": ${message}`;

const refused: readonly (readonly [MountRequest, string])[] = [
  [{ Type: "volume", Target: "" }, type("volume", "field Target must not be empty")],
  [{ Type: "volume", Target: "/" }, type("volume", "invalid specification: destination can't be '/'")],
  [{ Type: "volume", Target: "d" }, type("volume", "invalid mount path: 'd' mount path must be absolute")],
  [{ Type: "bind", Target: "/d" }, type("bind", "field Source must not be empty")],
  [{ Type: "bind", Source: "d", Target: "/d" }, type("bind", "invalid mount path: 'd' mount path must be absolute")],
  [
    { Type: "bind", Source: "/a", Target: "/d", BindOptions: { Propagation: "bogus" } },
    type("bind", "invalid propagation mode: bogus"),
  ],
  [
    { Type: "bind", Source: "/a", Target: "/d", VolumeOptions: {} },
    type("bind", "field VolumeOptions must not be specified"),
  ],
  [
    { Type: "volume", Source: "v1", Target: "/d", BindOptions: {} },
    type("volume", "field BindOptions must not be specified"),
  ],
  [{ Type: "tmpfs", Source: "x", Target: "/d" }, type("tmpfs", "field Source must not be specified")],
  [{ Type: "tmpfs", Target: "/d", VolumeOptions: {} }, type("tmpfs", "field VolumeOptions must not be specified")],
  [{ Type: "tmpfs", Target: "/d", TmpfsOptions: { Options: [["suid"]] } }, type("tmpfs", "invalid option: suid")],
  [{ Type: "bogus", Target: "/d" }, type("bogus", "mount type unknown")],
  [{ Type: "", Target: "/d" }, type("", "mount type unknown")],
  [
    { Type: "volume", Target: "/d", VolumeOptions: { Subpath: "x" } },
    type("volume", "must not set Subpath when using anonymous volumes"),
  ],
  ...["/x", "../x", "a/../../x", ".."].map((Subpath): readonly [MountRequest, string] => [
    { Type: "volume", Source: "v1", Target: "/d", VolumeOptions: { Subpath } },
    type("volume", "subpath must be a relative path within the volume"),
  ]),
  [
    {
      Type: "bind",
      Source: "/a",
      Target: "/d",
      BindOptions: { ReadOnlyForceRecursive: true, ReadOnlyNonRecursive: true },
    },
    type("bind", "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"),
  ],
];

describe("--mount", () => {
  for (const [request, message] of refused)
    test(`${JSON.stringify(request)} is refused in dockerd's words`, () => {
      assert.throws(() => parseMountRequest(request), refusal(message));
    });

  test("mounts of images say that they do not exist yet", () => {
    assert.throws(() => parseMountRequest({ Type: "image", Source: "i1", Target: "/d" }), { code: "unsupported" });
  });

  test("a volume with everything", () => {
    const draft = parseMountRequest({
      Type: "volume",
      Source: "v1",
      Target: "/d/",
      ReadOnly: true,
      VolumeOptions: {
        NoCopy: true,
        Labels: { a: "b" },
        Subpath: "s/p",
        DriverConfig: { Name: "local", Options: { size: "1m" } },
      },
    });
    assert.deepEqual(shown(draft.point), volume("v1", "/d", false));
    assert.deepEqual(draft.volume, { options: { size: "1m" }, labels: { a: "b" } });
    assert.deepEqual([draft.point.copyUp, draft.point.subpath, draft.point.driver], [false, "s/p", "local"]);
  });

  test("a bind with recursion turned off, or left writable below", () => {
    const request = { Type: "bind", Source: "/a", Target: "/d", ReadOnly: true };
    const of = (BindOptions: NonNullable<MountRequest["BindOptions"]>) =>
      parseMountRequest({ ...request, BindOptions }).point;
    assert.equal(of({ NonRecursive: true }).nonRecursive, true);
    assert.equal(of({ ReadOnlyNonRecursive: true }).readOnlyMode, "non-recursive");
    assert.equal(of({ ReadOnlyForceRecursive: true }).readOnlyMode, "force-recursive");
  });
});

describe("tmpfs", () => {
  const cases: Readonly<Record<string, string>> = {
    "": "noexec,nosuid,nodev,rprivate",
    exec: "nosuid,nodev,rprivate,exec",
    "size=64m,mode=1777,noexec": "nosuid,nodev,rprivate,size=64m,mode=1777,noexec",
    "size=1m,ro,size=2m,rw": "noexec,nosuid,nodev,rprivate,size=2m,rw",
    "uid=1,defaults,gid=2": "noexec,nosuid,nodev,rprivate,uid=1,gid=2",
    "suid,dev,shared": "noexec,suid,dev,shared",
  };
  for (const [given, merged] of Object.entries(cases))
    test(`options "${given}" over the defaults`, () => assert.equal(tmpfsOptions(given), merged));

  test("what is no option of a tmpfs is refused", () => {
    assert.throws(() => tmpfsOptions("bogus"), refusal('Invalid tmpfs option ["bogus"]'));
    assert.throws(() => tmpfsOptions("size=1m,source=/etc"), refusal('Invalid tmpfs option ["source" "/etc"]'));
    assert.throws(() => tmpfsOptions("size=1m,"), refusal('Invalid tmpfs option [""]'));
    for (const wrong of ["size=x", "size=-1k", "size=", "mode=9", "mode=-1", "uid=root", "nr_inodes=-1"])
      assert.throws(() => tmpfsOptions(wrong), { code: "invalid_argument", message: /invalid value for tmpfs option/ });
    for (const good of ["size=50%", "size=1G", "mode=1777", "uid=0", "nr_inodes=10k", "mpol=default"])
      assert.ok(tmpfsOptions(good).endsWith(good));
    assert.throws(() => tmpfsOptions("rbind"), refusal('Invalid tmpfs option ["rbind"]'));
  });

  test("sizes have the suffix that divides them, modes are octal, ro comes through", () => {
    const options = (SizeBytes: number) =>
      parseMountRequest({ Type: "tmpfs", Target: "/t", TmpfsOptions: { SizeBytes } }).point.tmpfsOptions;
    assert.equal(options(64 * 2 ** 20), "noexec,nosuid,nodev,rprivate,size=64m");
    assert.equal(options(2 ** 31), "noexec,nosuid,nodev,rprivate,size=2g");
    assert.equal(options(1536), "noexec,nosuid,nodev,rprivate,size=1536");
    const { point } = parseMountRequest({
      Type: "tmpfs",
      Target: "/t",
      ReadOnly: true,
      TmpfsOptions: { Mode: 0o1770 },
    });
    assert.equal(point.tmpfsOptions, "noexec,nosuid,nodev,rprivate,ro,mode=1770");
    assert.equal(point.readWrite, false);
  });

  test("--tmpfs needs an absolute target that is not the root", () => {
    assert.throws(() => parseTmpfs("d", ""), refusal("invalid mount path: 'd' mount path must be absolute"));
    assert.throws(() => parseTmpfs("/", ""), refusal("invalid specification: destination can't be '/'"));
  });
});
