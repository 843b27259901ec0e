import assert from "node:assert/strict";
import { test } from "node:test";
import type { MountPoint } from "../base/mount-point.ts";
import { type MountRequests, mergeMountPoints } from "./merge-mounts.ts";
import { parseVolumesFrom } from "./mount-mode.ts";
import { parseBind } from "./parse-mounts.ts";

const nothing: MountRequests = { binds: [], mounts: [], tmpfs: {}, volumes: [], from: [] };

const merge = (requests: Partial<MountRequests>): readonly MountPoint[] =>
  mergeMountPoints({ ...nothing, ...requests }).map((draft) => draft.point);

const shown = (requests: Partial<MountRequests>): readonly string[] =>
  merge(requests).map(({ type, name, source, destination }) => `${type} ${name ?? source} ${destination}`);

const duplicate = { code: "invalid_argument", message: "Duplicate mount point: /d" };

test("two binds on one target are an error, also as a mount or a tmpfs", () => {
  assert.throws(() => merge({ binds: ["aa:/d", "bb:/d/"] }), duplicate);
  assert.throws(() => merge({ binds: ["aa:/d"], mounts: [{ Type: "tmpfs", Target: "/d" }] }), duplicate);
  assert.throws(() => merge({ binds: ["aa:/d"], tmpfs: { "/d": "" } }), duplicate);
});

test("a volume of the image gives way to whatever is asked for on its target", () => {
  assert.deepEqual(shown({ binds: ["aa:/d"], volumes: ["/d", "/e"] }), ["volume aa /d", "volume  /e"]);
  assert.deepEqual(shown({ tmpfs: { "/d": "" }, volumes: ["/d"] }), ["tmpfs  /d"]);
  assert.deepEqual(shown({ volumes: ["/d", "/d/"] }), ["volume  /d"]);
});

test("volumes-from gives way to binds, wins over the image, and the last container wins", () => {
  const from = (spec: string) => ({ mounts: [parseBind(spec).point], readOnly: false });
  assert.deepEqual(shown({ from: [from("aa:/d"), from("bb:/d")], volumes: ["/d"] }), ["volume bb /d"]);
  assert.deepEqual(shown({ from: [from("aa:/d")], binds: ["cc:/d"] }), ["volume cc /d"]);
});

test("volumes-from is never filled again and never more writable than it was", () => {
  const from = (spec: string, readOnly: boolean) => ({ mounts: [parseBind(spec).point], readOnly });
  const [first] = merge({ from: [from("aa:/d", false)] });
  assert.deepEqual([first?.copyUp, first?.readWrite], [false, true]);
  assert.equal(merge({ from: [from("aa:/d:ro", false)] })[0]?.readWrite, false);
  assert.equal(merge({ from: [from("aa:/d", true)] })[0]?.readWrite, false);
});

test("parents are mounted before what lies below them", () => {
  const binds = ["aa:/x/y/z", "bb:/x", "cc:/a/b", "dd:/w"];
  assert.deepEqual(
    merge({ binds }).map((point) => point.destination),
    ["/w", "/x", "/a/b", "/x/y/z"],
  );
});

test("a bind that shows the data root is a slave, and a private one is refused", () => {
  const propagation = (bind: string) => merge({ binds: [bind], dataRoot: "/var/lib/x" })[0]?.propagation;
  assert.equal(propagation("/:/host"), "rslave");
  assert.equal(propagation("/var/lib:/host"), "rslave");
  assert.equal(propagation("/var/lib/x/volumes:/host"), "rslave");
  assert.equal(propagation("/var/lib/xy:/host"), "rprivate");
  assert.equal(propagation("/var:/host:rshared"), "rshared");
  assert.throws(() => propagation("/var:/host:private"), { code: "invalid_argument", message: /daemon root/ });
});

test("labels for SELinux are refused where they would mean something", () => {
  assert.throws(() => merge({ binds: ["/a:/b:Z"], selinux: true }), { code: "unsupported" });
  assert.equal(merge({ binds: ["/a:/b:Z"], selinux: false })[0]?.mode, "Z");
  assert.equal(merge({ binds: ["name:/b"], selinux: true })[0]?.mode, "z");
});

test("volumes-from specifications", () => {
  assert.deepEqual(parseVolumesFrom("c1"), { container: "c1", readOnly: false });
  assert.deepEqual(parseVolumesFrom("c1:ro"), { container: "c1", readOnly: true });
  assert.deepEqual(parseVolumesFrom("c1:"), { container: "c1", readOnly: false });
  assert.deepEqual(parseVolumesFrom("c1:z"), { container: "c1", readOnly: false });
  for (const mode of ["bogus", "nocopy", "rshared", "ro,ro"])
    assert.throws(() => parseVolumesFrom(`c1:${mode}`), { code: "invalid_argument", message: `invalid mode: ${mode}` });
  assert.throws(() => parseVolumesFrom(""), { message: "volumes-from specification cannot be an empty string" });
});
