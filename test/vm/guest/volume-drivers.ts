/**
 * Run in the guest, whose kernel has clients of NFS and SMB: `node volume-drivers.js <device>`. The drivers nfs and cifs
 * through the conformance suite against real servers, what their options do in the kernel, and what they say when
 * something is wrong; and limits of local volumes by project quotas.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { isMountPoint, mountTable } from "../../../src/host/mount.ts";
import { openCifsDriver } from "../../../src/volume-driver/cifs/driver.ts";
import { volumeDriverSuite, withVolumeDriver } from "../../../src/volume-driver/conformance.ts";
import type { OpenVolumeDriver } from "../../../src/volume-driver/conformance-bench.ts";
import { openLocalDriver } from "../../../src/volume-driver/local/driver.ts";
import { openNfsDriver } from "../../../src/volume-driver/nfs/driver.ts";
import { processTexts } from "../../support/processes.ts";
import { nfsFolder, password, server, smbFolder, startServers } from "./servers.ts";

type Options = Readonly<Record<string, string>>;

const nfsShare = `${server}:${nfsFolder}`;
const passwordFile = "/run/password";
const nfs: Options = { share: nfsShare };
const cifs: Options = { share: `//${server}/share`, username: "root", password: `@${passwordFile}` };

before(async () => {
  await startServers(process.argv[2] ?? "");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  // A filesystem with project quotas.
  mkdirSync("/data/tmp");
  process.env.TMPDIR = "/data/tmp";
});

/** Every volume in a folder of its own, two below what is there. */
const each = (options: Options) => ({
  options: ({ place }: { readonly place: string }): Options => ({ ...options, path: `cases/${place}` }),
});

volumeDriverSuite("cifs", openCifsDriver, each(cifs));
volumeDriverSuite("nfs 4.2", openNfsDriver, each({ ...nfs, version: "4.2" }));
volumeDriverSuite("nfs 3", openNfsDriver, each({ ...nfs, version: "3" }));
volumeDriverSuite("local with project quotas", openLocalDriver);

test("the size of a local volume is a project quota: df shows it, nothing is mounted, and it holds", () =>
  withVolumeDriver(openLocalDriver, async ({ driver }) => {
    const spec = { name: "v1", options: { size: "32m" } };
    await driver.create(spec);
    const path = await driver.mount(spec, "use");
    const { blocks, bsize } = statfsSync(path);
    assert.equal(blocks * bsize, 32 * 2 ** 20);
    assert.ok(!isMountPoint(path));
    assert.throws(
      () => writeFileSync(join(path, "f"), Buffer.alloc(40 * 2 ** 20, 1), { flush: true }),
      /ENOSPC|EDQUOT/,
    );
    await driver.unmount(spec, "use");
  }));

/** Mounts a volume and says what the kernel does for it. */
async function optionsInKernel(open: OpenVolumeDriver, options: Options): Promise<readonly string[]> {
  let found: readonly string[] = [];
  await withVolumeDriver(open, async ({ driver }) => {
    const spec = { name: "v1", options };
    await driver.create(spec);
    const path = await driver.mount(spec, "use");
    const entry = mountTable().findLast(({ target }) => target === path);
    found = [entry?.source ?? "", ...(entry?.options ?? []), ...(entry?.superOptions ?? [])];
    await driver.unmount(spec, "use");
    assert.ok(!isMountPoint(path));
    await driver.remove(spec);
  });
  return found;
}

const effects: readonly (readonly [string, OpenVolumeDriver, Options, readonly string[]])[] = [
  ["the newest version", openNfsDriver, nfs, ["vers=4.2", "hard", "timeo=600", "retrans=2", "nosuid", "nodev", "rw"]],
  ["version 3", openNfsDriver, { ...nfs, version: "3" }, ["vers=3", "hard", "nosuid", "nodev"]],
  ["version 4.1", openNfsDriver, { ...nfs, version: "4.1" }, ["vers=4.1"]],
  [
    "words",
    openNfsDriver,
    { ...nfs, o: "ro,soft,timeo=50,noatime,nconnect=2,actimeo=7" },
    ["ro", "soft", "timeo=50", "noatime", "nconnect=2", "acregmin=7"],
  ],
  ["locks of this machine alone", openNfsDriver, { ...nfs, version: "3", o: "nolock" }, ["nolock", "local_lock=all"]],
  ["device, as others call it", openNfsDriver, { device: nfsShare }, [nfsShare]],
  [
    "owner and modes",
    openCifsDriver,
    { ...cifs, uid: "5", gid: "6", file_mode: "0640", dir_mode: "0750" },
    ["uid=5", "gid=6", "file_mode=0640", "dir_mode=0750", "hard", "nosuid", "nodev"],
  ],
  ["a version of SMB", openCifsDriver, { ...cifs, vers: "2.1" }, ["vers=2.1"]],
  ["encryption", openCifsDriver, { ...cifs, o: "seal,cache=none,ro" }, ["seal", "cache=none", "ro"]],
  ["a domain", openCifsDriver, { ...cifs, domain: "STRATA", port: "445" }, ["domain=STRATA"]],
];

describe("what options do in the kernel", () => {
  for (const [title, open, options, words] of effects)
    test(`${title}: ${words.join(" ")}`, async () => {
      const found = await optionsInKernel(open, options);
      for (const word of words) assert.ok(found.includes(word), `${word} is not in ${found.join(" ")}`);
    });

  test("suid is lifted when asked for", async () => {
    assert.ok(!(await optionsInKernel(openNfsDriver, { ...nfs, o: "suid" })).includes("nosuid"));
  });

  test("credentials in one file", async () => {
    writeFileSync("/run/credentials", `username=root\npassword=${password}\ndomain=STRATA\n`, { mode: 0o600 });
    const found = await optionsInKernel(openCifsDriver, { share: cifs.share ?? "", credentials: "@/run/credentials" });
    assert.ok(found.includes("username=root"), found.join(" "));
  });
});

describe("a directory of the server", () => {
  test("is made when it is missing, and stays with what is in it when the volume is removed", () =>
    withVolumeDriver(openNfsDriver, async ({ driver }) => {
      const spec = { name: "v1", options: { ...nfs, path: "deep/er/one" } };
      await driver.create(spec);
      assert.ok(!existsSync(join(nfsFolder, "deep")), "nothing is asked of the server before the first use");
      writeFileSync(join(await driver.mount(spec, "use"), "f"), "kept");
      await driver.unmount(spec, "use");
      await driver.remove(spec);
      assert.equal(readFileSync(join(nfsFolder, "deep/er/one/f"), "utf8"), "kept");
    }));

  test("that a symlink of the server leads to is none of this machine", () =>
    withVolumeDriver(openNfsDriver, async ({ driver }) => {
      mkdirSync("/data/bait", { recursive: true });
      symlinkSync("/data/bait", join(nfsFolder, "trap"));
      const spec = { name: "v1", options: { ...nfs, path: "trap/in" } };
      await driver.create(spec);
      await assert.rejects(driver.mount(spec, "use"));
      assert.deepEqual(readdirSync("/data/bait"), []);
    }));
});

describe("what is wrong is said, and mounts nothing", () => {
  const wrong: readonly (readonly [string, OpenVolumeDriver, Options, string, RegExp])[] = [
    [
      "an export that is not there",
      openNfsDriver,
      { share: `${server}:/nowhere` },
      "forbidden",
      /does not let this machine mount 10\.9\.0\.2:\/nowhere; look at its exports/,
    ],
    [
      "a server without NFS",
      openNfsDriver,
      { share: "127.0.0.1:/e", version: "4.2" },
      "unavailable",
      /does not answer/,
    ],
    [
      "a share that is not there",
      openCifsDriver,
      { ...cifs, share: `//${server}/nope` },
      "not_found",
      /the server has no \/\/10\.9\.0\.2\/nope/,
    ],
    [
      "a wrong user",
      openCifsDriver,
      { ...cifs, username: "nobody" },
      "forbidden",
      /look at username, password and domain/,
    ],
    [
      "a secret that is not there",
      openCifsDriver,
      { ...cifs, password: "@/run/none" },
      "not_found",
      /\/run\/none.*is not there/,
    ],
  ];
  for (const [title, open, options, code, says] of wrong)
    test(title, () =>
      withVolumeDriver(open, async ({ driver, root }) => {
        const spec = { name: "v1", options };
        await driver.create(spec);
        await assert.rejects(driver.mount(spec, "use"), (error: Error & { readonly code?: string }) => {
          assert.equal(error.code, code, error.message);
          assert.match(error.message, says);
          assert.ok(!error.message.includes("everything"), "the password is in the message");
          return true;
        });
        assert.ok(statSync(join(root, `volume-drivers/${driver.name}/v1/_data`)).isDirectory());
      }),
    );
});

test("a password stands nowhere but in its file", () =>
  withVolumeDriver(openCifsDriver, async ({ driver, root }) => {
    const spec = { name: "v1", options: cifs };
    await driver.create(spec);
    let over = false;
    const seen = new Set<string>();
    const watch = async (): Promise<void> => {
      for (; !over; await new Promise(setImmediate)) for (const text of processTexts()) seen.add(text);
    };
    const watching = watch();
    try {
      writeFileSync(join(await driver.mount(spec, "use"), "f"), "x");
    } finally {
      over = true;
      await watching;
    }
    assert.ok(
      [...seen].some((text) => text.includes("username=root")),
      "mount.cifs was not seen",
    );
    for (const text of [...seen, readFileSync("/proc/mounts", "utf8"), JSON.stringify(await driver.describe(spec))])
      assert.ok(!text.includes("with everything"), text);
    for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }))
      if (!name.includes("_data") && statSync(join(root, name)).isFile())
        assert.ok(!readFileSync(join(root, name)).includes("with everything"), name);
    await driver.unmount(spec, "use");
    assert.equal(readFileSync(join(smbFolder, "f"), "utf8"), "x");
  }));
