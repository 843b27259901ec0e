/**
 * Run in the guest: `node volume-story.js <device>`. Containers of Strata's daemon with volumes on NFS 4.2 and SMB: what
 * they write, a server that stands still, a wire that is cut, and a kill of the daemon, while they go on writing.
 *
 * Under qemu's interpreter everything is slow: times are printed, and deadlines are for what would never come.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Call, call } from "../../support/api.ts";
import { type Daemon, startStrata } from "../../support/engine.ts";
import { tarOf } from "../../support/tar-bytes.ts";
import {
  cutWire,
  mendWire,
  nfsFolder,
  password,
  server,
  smbFolder,
  startServers,
  stopSamba,
  wakeSamba,
} from "./servers.ts";

const patience = 600_000;
const root = "/data/engine";
const passwordFile = "/run/password";
/** What the containers that write look at, so that they end. */
const signs = "/run/signs";

/** Volume -> driver, options, and where the server has it. */
const volumes = {
  four: {
    driver: "nfs",
    options: { share: `${server}:${nfsFolder}`, path: "four", version: "4.2" },
    folder: nfsFolder,
  },
  smb: {
    driver: "cifs",
    options: { share: `//${server}/share`, path: "smb", username: "root", password: `@${passwordFile}` },
    folder: smbFolder,
  },
} as const;
type Name = keyof typeof volumes;
const names: readonly Name[] = ["four", "smb"];

let daemon: Daemon;

async function start(): Promise<void> {
  daemon = await startStrata({ root, driver: "overlay2", args: ["--volume-deadline", "30"], patience: 1_200_000 });
}

async function ask(request: Call, ...wanted: readonly number[]): Promise<Answer> {
  const begin = performance.now();
  const answer = await call(daemon, { deadline: patience, ...request });
  console.log(
    `# ${request.method} ${request.path}: ${answer.status} after ${Math.round(performance.now() - begin)} ms`,
  );
  if (wanted.length > 0) assert.ok(wanted.includes(answer.status), `${request.path}: ${answer.status} ${answer.text}`);
  return answer;
}
const get = (path: string): Promise<Answer> => ask({ method: "GET", path }, 200);
const post = (path: string, json: object, ...wanted: readonly number[]): Promise<Answer> =>
  ask({ method: "POST", path, json }, ...wanted);
const remove = (path: string, ...wanted: readonly number[]): Promise<Answer> =>
  ask({ method: "DELETE", path }, ...wanted);

const startIt = (name: string, ...wanted: readonly number[]): Promise<Answer> =>
  post(`/containers/${name}/start`, {}, ...wanted);

async function make(name: string, binds: readonly string[], script: string): Promise<void> {
  const HostConfig = { NetworkMode: "none", Binds: binds };
  await post(`/containers/create?name=${name}`, { Image: "bb", Cmd: ["sh", "-c", script], HostConfig }, 201);
}

/** Both volumes, and a look at what the first container wrote; nothing of the image is copied: that takes a child more. */
const both = ["four:/four:nocopy", "smb:/smb:nocopy"];
const isKept = 'test "$(cat /four/f /smb/f)" = "$(echo kept; echo kept)"';

/** Runs a container to its end, which must be a good one. */
async function run(binds: readonly string[], script: string): Promise<void> {
  await make("short", binds, script);
  await startIt("short", 204);
  const { text } = await post("/containers/short/wait", {}, 200);
  assert.equal(JSON.parse(text).StatusCode, 0, script);
  await remove("/containers/short", 204);
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const begin = performance.now();
  for (; !(await holds()); await sleep(200)) assert.ok(performance.now() - begin < patience, `never came: ${what}`);
  console.log(`# ${what}: after ${Math.round(performance.now() - begin)} ms`);
}

/** A file of a volume, on the server. */
function onServer(name: Name, file: string): string {
  try {
    return readFileSync(join(volumes[name].folder, name, file), "utf8");
  } catch {
    return "";
  }
}

const lines = (name: Name): string[] => onServer(name, "lines").split("\n").slice(0, -1);
const mounted = (name: Name): number =>
  readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").split(`/${name}/_data `).length - 1;
const warningsIn = ({ text }: Answer): string => (JSON.parse(text).Warnings ?? []).join("\n");

/** Begins a container on each volume that counts into a file of it, a line a time. */
async function beginWriters(): Promise<void> {
  const count = "i=0; until [ -e /signs/end ]; do i=$((i+1)); echo $i >>/d/lines || exit 1; sleep 2; done";
  for (const name of names) {
    await make(`writer-${name}`, [`${name}:/d:nocopy`, `${signs}:/signs`], count);
    await startIt(`writer-${name}`, 204);
  }
}

async function writersGoOn(): Promise<void> {
  for (const name of names) {
    const before = lines(name).length;
    await until(`${name} is written on`, () => lines(name).length > before);
  }
}

/** While these volumes' server is away: they are refused by name, and nobody else waits. Then all is as it was. */
async function goAway(hung: readonly Name[], { cut, mend }: { readonly cut: () => void; readonly mend: () => void }) {
  const well = ["here", ...names].filter((name) => !hung.includes(name as Name));
  for (const name of hung) await make(`wants-${name}`, [`${name}:/d:nocopy`], "cat /d/f");
  cut();
  try {
    const refused = hung.map((name) => startIt(`wants-${name}`));
    for (const name of well) await run([`${name}:/d:nocopy`], "echo x >/d/x");
    for (const [index, answer] of (await Promise.all(refused)).entries()) {
      assert.ok([503, 504].includes(answer.status), answer.text);
      assert.match(answer.message, new RegExp(`volume ${hung[index]} of driver \\S+ (does not|did not) answer`));
    }
    const listed = warningsIn(await get("/volumes"));
    for (const name of hung)
      assert.match(listed, new RegExp(`^volume ${name} of driver \\S+ does not answer since`, "m"));
    assert.equal(JSON.parse((await get("/containers/json")).text).length, names.length);
    for (const name of hung) assert.match((await startIt(`wants-${name}`, 503)).message, /does not answer since/);
  } finally {
    mend();
  }
  const list = { method: "GET", path: "/volumes", deadline: patience };
  await until("no volume is named any more", async () => warningsIn(await call(daemon, list)) === "");
  await writersGoOn();
  for (const name of hung) {
    await startIt(`wants-${name}`, 204);
    const { text } = await post(`/containers/wants-${name}/wait`, {}, 200);
    assert.equal(JSON.parse(text).StatusCode, 0);
    await remove(`/containers/wants-${name}`, 204);
  }
}

describe("containers with volumes of servers", () => {
  before(async () => {
    process.env.NODE_COMPILE_CACHE = "/tmp/compiled";
    mkdirSync(signs);
    writeFileSync(passwordFile, password, { mode: 0o600 });
    await startServers(process.argv[2] ?? "");
    await start();
    const links = ["sh", "cat", "sleep", "test"].map((name) => ({ name: `bin/${name}`, type: "2", target: "busybox" }));
    const body = tarOf({ name: "bin/busybox", content: readFileSync("/usr/bin/busybox"), mode: 0o755 }, ...links);
    await ask({ method: "POST", path: "/images/create?fromSrc=-&repo=bb", body }, 200);
    for (const name of names) {
      const { driver, options } = volumes[name];
      await post("/volumes/create", { Name: name, Driver: driver, DriverOpts: options }, 201);
    }
    await post("/volumes/create", { Name: "here" }, 201);
  });

  after(async () => {
    mendWire();
    wakeSamba();
    await daemon.stop();
  });

  test("what a container writes is on the server and there for the next one, and no password is shown", async () => {
    await run(["four:/four", "smb:/smb"], "echo kept >/four/f; echo kept >/smb/f");
    for (const name of names) {
      await until(`${name} is unmounted`, () => mounted(name) === 0);
      assert.equal(onServer(name, "f"), "kept\n");
    }
    await run(both, isKept);
    const { text } = await get("/volumes/smb");
    assert.match(text, /@\/run\/password/);
    for (const shown of [text, (await get("/volumes")).text, daemon.log(), readFileSync("/proc/mounts", "utf8")])
      assert.ok(!shown.includes("with everything"), shown);
  });

  test("a Samba that stands still is the matter of its volume alone", async () => {
    await beginWriters();
    await writersGoOn();
    await goAway(["smb"], { cut: stopSamba, mend: wakeSamba });
  });

  test("so is a wire that is cut", () => goAway(["four", "smb"], { cut: cutWire, mend: mendWire }));

  test("a kill of the daemon takes nothing from who runs; after the last of them nothing is mounted", async () => {
    await daemon.kill();
    await writersGoOn();
    await start();
    await writersGoOn();
    assert.deepEqual(names.map(mounted), [1, 1], "one mount of each");
    for (const name of names) assert.match((await remove(`/volumes/${name}`, 409)).message, /volume is in use/);
    await run(both, isKept);
    assert.deepEqual(names.map(mounted), [1, 1], "the end of another container leaves them");
    await writersGoOn();
    writeFileSync(join(signs, "end"), "");
    for (const name of names) {
      const { text } = await post(`/containers/writer-${name}/wait`, {}, 200);
      assert.equal(JSON.parse(text).StatusCode, 0);
      await until(`${name} is unmounted`, () => mounted(name) === 0);
      const all = lines(name);
      console.log(`# ${name}: ${all.length} lines`);
      assert.deepEqual(
        all,
        Object.keys(all).map((index) => `${Number(index) + 1}`),
        "every line once, in order",
      );
      // The container that ended still has it.
      await remove(`/volumes/${name}`, 409);
      await remove(`/containers/writer-${name}`, 204);
      await remove(`/volumes/${name}`, 204);
      assert.equal(onServer(name, "f"), "kept\n", "the server keeps it");
    }
    assert.doesNotMatch(readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8"), / (nfs4|cifs) /);
  });
});
