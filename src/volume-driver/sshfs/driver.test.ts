import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { copyFile, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { scratchFolder } from "../../../test/support/engine.ts";
import { processesBelow } from "../../../test/support/processes.ts";
import { type Sshd, sshdProgram, startSshd } from "../../../test/support/sshd.ts";
import { errorMessage } from "../../base/errors.ts";
import { type VolumeDriverCase, volumeDriverSuite, withVolumeDriver } from "../conformance.ts";
import type { VolumeSpec } from "../driver.ts";
import { missingOf } from "../requirements.ts";
import { openSshfsDriver } from "./driver.ts";
import { parseOptions } from "./options.ts";

const programs = ["sshfs", "ssh"].map((name) => ({ kind: "program", name, advice: "" }) as const);
const absent = sshdProgram === undefined || (await missingOf(programs)).length > 0;
const skip = process.getuid?.() !== 0 ? "mounting needs root" : absent ? "sshfs or sshd is not installed" : false;

describe("sshfs", { skip }, () => {
  const scratch = scratchFolder();
  let sshd: Sshd;

  before(async () => {
    sshd = await startSshd(join(scratch.path, "server"));
  });
  after(async () => {
    await sshd?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  const placeFor = (place: string): string => {
    const path = join(scratch.path, "a folder, 'of' \"many\"", place);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const optionsFor = (place: string): VolumeSpec["options"] => ({
    sshcmd: `root@127.0.0.1:${placeFor(place)}`,
    port: String(sshd.port),
    identity: `@${sshd.identity}`,
    known_hosts: `@${sshd.knownHosts}`,
  });
  const setting = { options: ({ place }: { readonly place: string }) => optionsFor(place) };
  const given = (work: (given: VolumeDriverCase) => Promise<void>) => () =>
    withVolumeDriver(openSshfsDriver, work, setting);

  volumeDriverSuite("sshfs", openSshfsDriver, setting);

  test(
    "what is written is on the server at once when it is closed, with owner, mode and links",
    given(async ({ driver }) => {
      const spec = { name: "one", options: optionsFor("seen") };
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      execFileSync("sh", [
        "-c",
        'cd "$1" && echo hello > f && chown 5:6 f && chmod 640 f && ln -s f l && mkdir d',
        "sh",
        path,
      ]);
      const there = placeFor("seen");
      assert.equal(await readFile(join(there, "f"), "utf8"), "hello\n");
      const { uid, gid, mode } = await stat(join(there, "f"));
      assert.deepEqual([uid, gid, mode & 0o777], [5, 6, 0o640]);
      await writeFile(join(path, "big"), Buffer.alloc(3_000_000, 7));
      await driver.unmount(spec, "a");
      assert.ok((await readFile(join(there, "big"))).equals(Buffer.alloc(3_000_000, 7)));
      await driver.remove(spec);
      assert.equal(await readFile(join(there, "l"), "utf8"), "hello\n", "the server keeps its data");
    }),
  );

  test(
    "by password, with owners mapped, read-only: and the password is seen by nobody",
    given(async ({ driver, root }) => {
      await writeFile(join(root, "secrets", "nas"), `${sshd.password}\n`, { mode: 0o600 });
      const { identity: _, ...others } = optionsFor("mapped");
      const spec = {
        name: "one",
        options: { ...others, password: "@nas", uid: "7", gid: "8", ro: "", allow_other: "" },
      };
      await writeFile(join(placeFor("mapped"), "f"), "x");
      await driver.create(spec);
      const path = await driver.mount(spec, "a");
      const { uid, gid } = await stat(join(path, "f"));
      assert.deepEqual([uid, gid], [7, 8]);
      await assert.rejects(writeFile(join(path, "g"), "x"), { code: "EROFS" });
      assert.ok(!execFileSync("ps", ["axeww"], { encoding: "utf8" }).includes(sshd.password));
      assert.equal(
        execFileSync("sh", [
          "-c",
          'grep -rlF "$1" "$2" || true',
          "sh",
          sshd.password,
          join(root, "volume-drivers"),
        ]).toString(),
        "",
      );
      await driver.unmount(spec, "a");
      await writeFile(join(root, "secrets", "nas"), "another password", { mode: 0o600 });
      await refused(driver.mount(spec, "a"), /does not let the user root in with this password/);
      assert.deepEqual(processesBelow(root), []);
    }),
  );

  const failures: readonly [
    string,
    (given: VolumeDriverCase) => Promise<VolumeSpec["options"]> | VolumeSpec["options"],
    RegExp,
  ][] = [
    [
      "a host whose key is not known",
      async ({ root }) => ({ known_hosts: await file(root, "known", "# nobody\n") }),
      /host key of 127.0.0.1 is not known: .* known_hosts=@/,
    ],
    [
      "a host with another key",
      async ({ root }) => ({
        known_hosts: await file(
          root,
          "known",
          `[127.0.0.1]:${sshd.port} ${await readFile(`${sshd.stranger}.pub`, "utf8")}`,
        ),
      }),
      /host key of 127.0.0.1 is not the one in known_hosts/,
    ],
    ["a key that the server does not know", () => ({ identity: `@${sshd.stranger}` }), /does not let the user root in/],
    [
      "a file that is no key",
      async ({ root }) => ({ identity: await file(root, "bad", "no key") }),
      /holds no private key/,
    ],
    [
      "a directory that is not there",
      () => ({ sshcmd: "root@127.0.0.1:/no/such/place" }),
      /there is no directory \/no\/such\/place on 127.0.0.1/,
    ],
    ["a port where nobody listens", () => ({ port: "1" }), /127.0.0.1 does not answer/],
  ];
  for (const [title, change, says] of failures)
    test(
      `${title} is a clear error, and leaves no process and no mount`,
      given(async (here) => {
        const { driver, root } = here;
        const spec = { name: "one", options: { ...optionsFor("never"), ...(await change(here)) } };
        await driver.create(spec);
        await refused(driver.mount(spec, "a"), says);
        assert.deepEqual(processesBelow(root), []);
        await assert.rejects(stat(join(root, "volume-drivers/sshfs/one/run")), { code: "ENOENT" });
      }),
    );

  test(
    "a key that others may read is refused",
    given(async ({ driver, root }) => {
      await copyFile(sshd.identity, join(root, "open"));
      execFileSync("chmod", ["644", join(root, "open")]);
      const spec = { name: "one", options: { ...optionsFor("never"), identity: `@${join(root, "open")}` } };
      await driver.create(spec);
      await refused(driver.mount(spec, "a"), /which the option identity refers to, is open to others/);
    }),
  );
});

async function refused(work: Promise<unknown>, says: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.match(errorMessage(error), says);
    assert.match(errorMessage(error), /^error while mounting volume/);
    return true;
  });
}

async function file(root: string, name: string, content: string): Promise<string> {
  await writeFile(join(root, name), content, { mode: 0o600 });
  return `@${join(root, name)}`;
}

describe("options of sshfs", () => {
  const fine = { identity: "@k" };
  for (const [options, place] of [
    [{ sshcmd: "me@host:/a b,c" }, ["me", "host", "/a b,c"]],
    [{ sshcmd: "host:" }, ["root", "host", ""]],
    [{ sshcmd: "me@[fe80::1%eth0]:/x:y@z" }, ["me", "fe80::1%eth0", "/x:y@z"]],
    [{ host: "10.0.0.1", user: "u.x", path: "-o x" }, ["u.x", "10.0.0.1", "-o x"]],
  ] as const)
    test(`${JSON.stringify(options)} is a place`, () => {
      const { user, host, path } = parseOptions({ ...fine, ...options });
      assert.deepEqual([user, host, path], place);
    });

  const hostile: readonly [Record<string, string>, RegExp][] = [
    [{}, /missing required option: "sshcmd"/],
    [{ sshcmd: "-oProxyCommand=id" }, /sshcmd/],
    [{ sshcmd: "-oProxyCommand=id:/x" }, /option host/],
    [{ sshcmd: "-o@host:/x" }, /option user/],
    [{ sshcmd: "a b@host:/x" }, /option user/],
    [{ sshcmd: "u@ho st:/x" }, /option host/],
    [{ sshcmd: "u@h,allow_root:/x" }, /option host/],
    [{ sshcmd: "u@h:/x\n" }, /option path/],
    [{ sshcmd: "u@h\n:/x" }, /option host/],
    [{ host: "-h" }, /option host/],
    [{ host: "$(id)" }, /option host/],
    [{ host: "h", user: "-l" }, /option user/],
    [{ host: "h", path: "/a\0b" }, /option path/],
    [{ host: "h", sshcmd: "u@h:/" }, /exclude one another/],
    [{ host: "h", port: "0x16" }, /option port/],
    [{ host: "h", port: "70000" }, /option port/],
    [{ host: "h", port: "22 -v" }, /option port/],
    [{ host: "h", uid: "root" }, /option uid/],
    [{ host: "h", uid: "1,suid" }, /option uid/],
    [{ host: "h", ro: "no" }, /option ro/],
    [{ host: "h", identity: "/root/.ssh/id" }, /option identity takes a reference/],
    [{ host: "h", password: "@p" }, /exclude one another/],
    [{ host: "h", known_hosts: "no" }, /option known_hosts/],
    [{ host: "h", ProxyCommand: "id" }, /invalid option: "ProxyCommand"; sshfs has sshcmd/],
    [{ host: "h", toString: "1" }, /invalid option/],
  ];
  for (const [options, says] of hostile)
    test(`${JSON.stringify(options)} is refused`, () =>
      assert.throws(() => parseOptions({ ...fine, ...options }), { code: "invalid_argument", message: says }));

  test("somebody must be let in, by one secret", () =>
    assert.throws(() => parseOptions({ host: "h" }), { message: /missing required option: "identity" or "password"/ }));
});
