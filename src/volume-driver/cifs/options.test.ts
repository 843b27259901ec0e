import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseCredentials, parseOptions } from "./options.ts";

const share = "//srv/share";
const account = { share, username: "u", password: "@/p" };

describe("options of cifs", () => {
  test("have safe words for what is not said, and no password", () => {
    assert.deepEqual(parseOptions({ ...account, uid: "5", vers: "3.0", o: "seal" }), {
      share,
      path: undefined,
      username: "u",
      domain: undefined,
      secret: "password",
      words: ["hard", "nosuid", "nodev", "vers=3.0", "uid=5", "seal"],
    });
    assert.equal(parseOptions({ share }).secret, undefined, "a guest");
    assert.equal(parseOptions({ share, credentials: "@creds" }).secret, "credentials");
    assert.equal(parseOptions({ share: "//[fe80::1]/s" }).share, "//fe80::1/s");
  });

  for (const [options, says] of [
    [{}, /missing required option: "share"/],
    [{ share: "srv:/e" }, /no share/],
    [{ share: "//srv" }, /no share/],
    [{ share: "//srv/a/b" }, /what is below it as path/],
    [{ share: "//srv:445/a" }, /port not allowed/],
    [{ share: "//-o/a" }, /names no server/],
    [{ share: "//srv/.." }, /no path/],
    [{ ...account, password: "hunter2" }, /the option password takes a reference/],
    [{ share, username: "u" }, /missing required option: "password"/],
    [{ share, password: "@/p" }, /missing required option: "username"/],
    [{ ...account, credentials: "@/c" }, /credentials alone/],
    [{ ...account, username: "u,uid=0" }, /username/],
    [{ ...account, username: "u%secret" }, /username/],
    [{ ...account, domain: "d,x" }, /domain/],
    [{ ...account, uid: "root" }, /uid/],
    [{ ...account, file_mode: "9" }, /file_mode/],
    [{ ...account, o: "password=x" }, /the option o takes no password: give the option password=@/],
    [{ ...account, o: "credentials=/etc/shadow" }, /takes no credentials/],
    [{ ...account, o: "uid=1" }, /give the option uid/],
    [{ ...account, o: "prefixpath=../x" }, /takes no prefixpath/],
    [{ ...account, o: "evil" }, /unknown word: "evil"/],
    [{ ...account, path: "../x" }, /path/],
  ] as const)
    test(`${JSON.stringify(options)} are refused`, () =>
      assert.throws(
        () => parseOptions(options),
        (error: Error) => {
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /hunter2/);
          return true;
        },
      ));

  test("credentials are read in the form of mount.cifs", () => {
    const text = "username=u\npassword= p,a=b \ndomain=d\n\n";
    assert.deepEqual(parseCredentials(text), { username: "u", domain: "d", password: " p,a=b " });
    for (const wrong of ["hunter2", "password=hunter2", "username=a,b\npassword=hunter2", "# hunter2\nusername=u"])
      assert.throws(
        () => parseCredentials(wrong),
        (error: Error) => !error.message.includes("hunter2"),
      );
  });
});
