import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorMessage } from "../../base/errors.ts";
import { explain } from "./driver.ts";
import { formOfKey } from "./key.ts";
import { doorsOf, formatMonitors, namesOf, parseMonitors, resolveMonitors } from "./monitors.ts";
import { parseOptions } from "./options.ts";

const fine = { mons: "10.0.0.1", secret: "@k" };
const invalid = { code: "invalid_argument" };

describe("options of ceph", () => {
  test("become what ceph-fuse is told", () => {
    const { monitors: _, ...told } = parseOptions({
      ...fine,
      ...{ user: "shop", fs: "shelf", path: "/shop/db/", o: "ro,acl,noatime,mount_timeout=5" },
    });
    const words = ["nosuid", "nodev", "ro", "noatime"];
    assert.deepEqual(told, { user: "shop", fs: "shelf", path: "shop/db", acl: true, timeout: 5, words });
    const { user, fs, path, timeout } = parseOptions({ ...fine, o: "suid" });
    assert.deepEqual([user, fs, path, timeout], ["admin", undefined, "", 80]);
    assert.deepEqual(parseOptions({ ...fine, o: "suid" }).words, ["suid", "nodev"]);
  });

  for (const [options, says] of [
    [{ secret: "@k" }, /missing required option: "mons"/],
    [{ mons: "a" }, /missing required option: "secret"/],
    [{ ...fine, secret: "AQDx4wFrdAKPDxAAYWCNsK3qT9xfwAPPoOcovw==" }, /the option secret takes a reference/],
    [{ ...fine, user: "client.shop" }, /without "client.": shop/],
    [{ ...fine, user: "-k" }, /option user/],
    [{ ...fine, user: "a b" }, /option user/],
    [{ ...fine, fs: "--conf=/x" }, /option fs/],
    [{ ...fine, path: "/a/../b" }, /option path/],
    [{ ...fine, path: "/a//b" }, /option path/],
    [{ ...fine, path: "/a$pid" }, /option path can have no \$/],
    [{ ...fine, path: "/a\nb" }, /control character/],
    [{ ...fine, o: "allow_root" }, /unknown word: "allow_root"/],
    [{ ...fine, o: "mount_timeout=0" }, /wrong value of mount_timeout/],
    [{ ...fine, o: "mount_timeout=100" }, /wrong value of mount_timeout/],
    [{ ...fine, o: "name=shop" }, /give the option user/],
    [{ ...fine, o: "secretfile=/etc/x" }, /give the option secret=@/],
    [{ ...fine, monitors: "a" }, /invalid option: "monitors"; ceph has mons, user, secret, fs, path, o/],
  ] as const)
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(
        () => parseOptions(options),
        (error) => {
          assert.ok(!errorMessage(error).includes("AQDx4"));
          assert.match(errorMessage(error), says);
          return true;
        },
      ));
});

describe("monitors of ceph", () => {
  for (const [text, told] of [
    ["10.0.0.1", "10.0.0.1"],
    ["10.0.0.1:6789, 10.0.0.2:3300", "v1:10.0.0.1:6789,v2:10.0.0.2:3300"],
    ["v2:10.0.0.1 v1:10.0.0.2:7000", "v2:10.0.0.1:3300,v1:10.0.0.2:7000"],
    ["[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]"],
    [
      "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0];10.0.0.3",
      "[v2:10.0.0.1:3300,v1:10.0.0.1:6789],[v2:[fd00::1]:3300,v1:[fd00::1]:6789],10.0.0.3",
    ],
    ["[fd00::1],[fd00::2]:6789,v2:[fd00::3]", "[fd00::1],v1:[fd00::2]:6789,v2:[fd00::3]:3300"],
  ] as const)
    test(`${text} are ${told}`, async () => {
      assert.equal(formatMonitors(await resolveMonitors(parseMonitors("mons", text), undefined)), told);
    });

  test("names become addresses, each a monitor of its own", async () => {
    const named = parseMonitors("mons", "[v2:localhost:3300,v1:localhost:6789]");
    const addresses = formatMonitors(await resolveMonitors(named, undefined));
    assert.match(addresses, /(^|,)\[v2:(127\.0\.0\.1|\[::1\]):3300,v1:(127\.0\.0\.1|\[::1\]):6789\]/);
    assert.ok(!addresses.includes("localhost"));
    await assert.rejects(resolveMonitors(parseMonitors("mons", "no-such-host.invalid"), undefined), {
      code: "unavailable",
      message: /the monitor no-such-host.invalid is not known/,
    });
  });

  test("are asked at the usual ports where no other is named", () => {
    const ports = doorsOf(parseMonitors("mons", "a,b:6789,v2:c:7000")).map(({ host, port, protocol }) => [
      host,
      port,
      protocol,
    ]);
    const usual = [
      ["a", 3300, "v2"],
      ["a", 6789, "v1"],
    ];
    assert.deepEqual(ports, [...usual, ["b", 6789, "v1"], ["c", 7000, "v2"]]);
  });

  test("a message names them as a user wrote them", () => {
    assert.equal(namesOf(parseMonitors("mons", "[v2:a:3300/0,v1:a:6789/0],b,b")), "a:3300, a:6789, b");
  });

  for (const [text, says] of [
    [" , ", /names no monitors/],
    ["-m", /names no server/],
    ["a:5000", /say which protocol is spoken there, v2:a:5000 or v1:a:5000/],
    ["a:0", /has no port/],
    ["v2:a:70000", /has no port/],
    ["v3:a:3300", /names no monitors/],
    ["[v2:a:3300", /names no monitors/],
    ["[v2:a:3300]x", /names no monitors/],
    ["fd00::1", /names no monitors/],
    ["[fe80::1%eth0]", /takes no interface/],
    ["[nonsense]", /names no server/],
    ["a=b", /names no server/],
    ["$(id)", /names no server/],
  ] as const)
    test(`${text} are none`, () =>
      assert.throws(
        () => parseMonitors("mons", text),
        (error) => {
          assert.match(errorMessage(error), says);
          return true;
        },
      ));
});

describe("keys of ceph", () => {
  const key = "AQDx4wFrdAKPDxAAYWCNsK3qT9xfwAPPoOcovw==";
  const keyring = `[client.shop]\n\tkey = ${key}\n\tcaps mds = "allow rw path=/shop"\n`;

  test("stand alone, or in a keyring with what a user may do", () => {
    assert.equal(formOfKey("secret", key, "shop"), "keyfile");
    assert.equal(formOfKey("secret", keyring, "shop"), "keyring");
    assert.equal(formOfKey("secret", `# two\n[client.a]\nkey=${key}\n\n${keyring}`, "shop"), "keyring");
  });

  for (const [title, text, says] of [
    ["a word", "hello", /holds no key: it is the one line of 'ceph auth get-key client.shop'/],
    ["a key with a blank behind it", `${key} `, /holds no key/],
    ["a key that was cut off", key.slice(0, -8), /holds no key/],
    [
      "a key of another length",
      Buffer.concat([Buffer.from(key, "base64"), Buffer.alloc(3)]).toString("base64"),
      /holds no key/,
    ],
    ["somebody else's keyring", keyring.replace("shop]", "other]"), /has no key of client.shop/],
    ["a keyring with half a key", keyring.replace("==", ""), /line 2 of the keyring .* is no key of anybody/],
    ["a key of nobody in a keyring", `key = ${key}\n${keyring}`, /line 1 of the keyring/],
    [
      "a keyring with another line",
      `${keyring}${key}\n`,
      /line 4 of the keyring .* is not what 'ceph auth get' writes/,
    ],
  ] as const)
    test(`${title} is refused before ceph-fuse, which would log it, reads it`, () =>
      assert.throws(
        () => formOfKey("secret", text, "shop"),
        (error) => {
          assert.match(errorMessage(error), says);
          assert.ok(!errorMessage(error).includes(key.slice(0, 12)));
          return true;
        },
      ));
});

test("what ceph-fuse says means what a user can do", () => {
  const volume = parseOptions({ ...fine, user: "shop", fs: "shelf", path: "/db" });
  const torn =
    "ceph-fuse[2026-11-21T18:36:52.129+0000 7fcca8a36240 -1 client.0 something\n24648]: ceph mount failed with ";
  for (const [said, code, says] of [
    [
      "-1 client.0 authentication failed: (13) Permission denied\nmount failed with (13)",
      "forbidden",
      /let client.shop in/,
    ],
    ["handle_auth_bad_method server\nauthentication failed: (110) x", "forbidden", /let client.shop in/],
    [
      "client.0 authentication failed: (110) Connection timed out",
      "unavailable",
      /10.0.0.1 did not let client.shop in within 80 s$/,
    ],
    ["mdsmap subscription failed: (2) No such\nceph mount failed with (2) No", "not_found", /has no filesystem shelf/],
    [`${torn}(2) No such file or directory`, "not_found", /no directory \/db in the filesystem shelf/],
    [
      "client.4 mds.0 rejected us (non-allowable root '/')\nceph mount failed with (1)",
      "forbidden",
      /may not mount \/db/,
    ],
    [`${torn}(110) Connection timed out`, "unavailable", /no metadata server/],
  ] as const) {
    const error = explain(volume, said);
    assert.equal(error?.code, code, said);
    assert.match(errorMessage(error), says);
  }
  assert.equal(explain(volume, "anything else"), undefined);
  assert.throws(() => parseOptions({ ...fine, mons: "" }), invalid);
});
