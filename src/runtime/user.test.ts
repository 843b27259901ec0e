import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { isError } from "../base/errors.ts";
import { resolveUser } from "./user.ts";

describe("the user of a container", () => {
  let root = "";
  before(() => {
    root = mkdtempSync(join(tmpdir(), "strata-user-"));
    mkdirSync(join(root, "etc"));
    writeFileSync(
      join(root, "etc/passwd"),
      "# c\nroot:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\nbad:x:y:1::/:\n",
    );
    writeFileSync(join(root, "etc/group"), "root:x:0:\nstaff:x:1001:\nwheel:x:10:root,ann\nother:x:20:bob\n");
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  for (const [user, groupAdd, expected] of [
    ["", [], { uid: 0, gid: 0, additionalGids: [0, 10], home: "/root" }],
    ["ann", [], { uid: 1000, gid: 1001, additionalGids: [1001, 10], home: "/home/ann" }],
    ["1000", [], { uid: 1000, gid: 1001, additionalGids: [1001, 10], home: "/home/ann" }],
    ["ann:other", [], { uid: 1000, gid: 20, additionalGids: [20], home: "/home/ann" }],
    ["77", [], { uid: 77, gid: 0, additionalGids: [0], home: "/" }],
    ["77:88", ["wheel", "99"], { uid: 77, gid: 88, additionalGids: [88, 10, 99], home: "/" }],
    [":staff", [], { uid: 0, gid: 1001, additionalGids: [1001], home: "/root" }],
  ] as const)
    test(`${JSON.stringify(user)} with ${groupAdd.length} more groups`, async () => {
      assert.deepEqual(await resolveUser(root, user, groupAdd), expected);
    });

  for (const [user, groupAdd, message] of [
    ["eve", [], "unable to find user eve: no matching entries in passwd file"],
    ["ann:none", [], "unable to find group none: no matching entries in group file"],
    ["-1", [], "uids and gids must be in range 0-2147483647"],
    ["99999999999", [], "uids and gids must be in range 0-2147483647"],
    ["", ["none"], "Unable to find group none: no matching entries in group file"],
  ] as const)
    test(`${JSON.stringify(user)} is refused: ${message}`, async () => {
      const refused = (error: unknown): boolean => isError(error, "invalid_argument") && error.message === message;
      await assert.rejects(resolveUser(root, user, groupAdd), refused);
    });

  test("a root without the files knows numbers only", async () => {
    const bare = join(root, "bare");
    mkdirSync(bare);
    assert.deepEqual(await resolveUser(bare, "5:6"), { uid: 5, gid: 6, additionalGids: [6], home: "/" });
    assert.deepEqual(await resolveUser(bare, ""), { uid: 0, gid: 0, additionalGids: [0], home: "/" });
  });

  test("links lead inside the root, a fifo is no user file, and neither holds anybody up", async () => {
    const hostile = join(root, "hostile");
    mkdirSync(join(hostile, "etc"), { recursive: true });
    symlinkSync("/../../../../etc/passwd", join(hostile, "etc/passwd"));
    execFileSync("mkfifo", [join(hostile, "etc/group")]);
    await assert.rejects(resolveUser(hostile, "daemon"), (error) => isError(error, "invalid_argument"));
    assert.equal((await resolveUser(hostile, "3:4")).gid, 4);
  });
});
