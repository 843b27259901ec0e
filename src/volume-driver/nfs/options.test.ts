import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { explain } from "./driver.ts";
import { parseOptions } from "./options.ts";

const refused = (message: RegExp) => ({ code: "invalid_argument", message });

describe("options of nfs", () => {
  test("have safe words for what is not said", () => {
    assert.deepEqual(parseOptions({ share: "srv:/export" }), {
      share: "srv:/export",
      path: undefined,
      o: "hard,timeo=600,retrans=2,retry=0,nosuid,nodev",
    });
  });

  test("replace them where they say otherwise", () => {
    const { o } = parseOptions({ share: "srv:/e", version: "4.1", o: "soft,timeo=50,suid,ro" });
    assert.equal(o, "vers=4.1,retrans=2,retry=0,nodev,soft,timeo=50,suid,ro");
  });

  for (const share of ["h:/", "10.0.0.1:/e/f/", "[fe80::1%eth0]:/e", "[::1]:/with space", "a.b-c.d:/e"])
    test(`${share} is a share`, () => assert.equal(parseOptions({ share }).share, share));

  for (const share of [
    "",
    "h",
    "h:e",
    ":/e",
    "-h:/e",
    "h,i:/e",
    "[::1:/e",
    "[zz]:/e",
    "h:/e/../f",
    "h:/a\nb",
    "h i:/e",
  ])
    test(`${JSON.stringify(share)} is none`, () => assert.throws(() => parseOptions({ share }), refused(/share/)));

  for (const path of ["", "/a", "a/", "a//b", "..", "a/../b", "a\\b", "a\0b", "x".repeat(256)])
    test(`${JSON.stringify(path).slice(0, 30)} is no path below it`, () =>
      assert.throws(() => parseOptions({ share: "h:/e", path }), refused(/path/)));

  for (const [options, says] of [
    [{ server: "h" }, /invalid option: "server"; nfs has share, device, path, version, o/],
    [{ share: "h:/e", device: "h:/e" }, /share and device are one/],
    [{ share: "h:/e", version: "5" }, /invalid value of the option version: "5"; give 3, 4/],
    [{ share: "h:/e", o: "addr=x" }, /the option o takes no addr: the server stands in share/],
    [{ share: "h:/e", o: "nfsvers=4" }, /give the option version/],
    [{ share: "h:/e", o: "timeo=x" }, /wrong value of timeo/],
    [{ share: "h:/e", o: "hard=1" }, /wrong value of hard: it stands alone/],
    [{ share: "h:/e", o: "exec,remount" }, /unknown word: "exec"/],
    [{ share: "h:/e", o: "toString" }, /unknown word: "toString"/],
    [{ share: "h:/e", o: "ro\nx" }, /the option o holds a control character/],
    [{ toString: "h" }, /invalid option/],
  ] as const)
    test(`${JSON.stringify(options)} are refused`, () => assert.throws(() => parseOptions(options), refused(says)));

  for (const [said, code, words] of [
    ["mount.nfs: access denied by server while mounting h:/e", "forbidden", /look at its exports/],
    ["mount.nfs: mounting h:/e failed, reason given by server: No such file or directory", "not_found", /has no h:\/e/],
    ["mount.nfs: Failed to resolve server h: Name or service not known", "unavailable", /look at the name/],
    ["mount.nfs: Connection refused", "unavailable", /does not answer/],
    ["mount.nfs: rpc.statd is not running but is required for remote locking.", "unsupported", /o=nolock/],
  ] as const)
    test(`"${said}" is explained`, () => {
      const error = explain("h:/e", said);
      assert.equal(error?.code, code);
      assert.match(error?.message ?? "", words);
    });
});
