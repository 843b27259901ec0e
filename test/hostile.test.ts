/**
 * Hostile archives through every door: a layer, an upload into a container, a build's context, ADD, COPY from an image,
 * the first content of a volume, and the way out. Whatever the engine answers, a folder of the host beside its roots
 * stays as it was, nothing that stands in it comes out, and the daemon goes on.
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Answer, call } from "./support/api.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, succeed, unmountBelow } from "./support/engine.ts";
import { assertFootprint, footprintOf } from "./support/footprint.ts";
import { hostileTrees, tarOfTree } from "./support/hostile-trees.ts";
import { type Member, tarOf } from "./support/tar-bytes.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const content = "what nobody in a container may see";

/** Names, attributes and content of a folder; access times are no change. */
function pictureOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .concat(".")
    .sort()
    .map((name) => {
      const path = join(folder, name);
      const { mode, uid, gid, mtimeNs, nlink } = lstatSync(path, { bigint: true });
      const text = statSync(path).isFile() ? readFileSync(path, "latin1") : "";
      return `${name} ${mode.toString(8)} ${uid}:${gid} ${nlink} ${mtimeNs} ${text}`;
    });
}

describe("hostile archives", { skip }, () => {
  const scratch = scratchFolder();
  const out = join(scratch.path, "outside");
  let daemon: Daemon;
  let picture: readonly string[];
  let clean: readonly string[];

  before(async () => {
    mkdirSync(out);
    writeFileSync(join(out, "secret"), content);
    chmodSync(join(out, "secret"), 0o640);
    chmodSync(out, 0o751);
    for (const path of [join(out, "secret"), out]) utimesSync(path, 1_000_000_000, 1_000_000_000);
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    await daemon.ok(["import", await busyboxTar(join(scratch.path, "bb.tar")), "bb"]);
    await daemon.docker(["build", "-"], { input: "FROM bb\nRUN true" });
    await daemon.docker(["image", "prune", "-f"]);
    clean = await footprintOf(daemon);
    await daemon.ok(["run", "-d", "--name", "runs", "bb", "sleep", "600"]);
    await daemon.ok(["exec", "runs", "mkdir", "/tmp/in"]);
    picture = pictureOf(out);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "runs"]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const tarType = { "Content-Type": "application/x-tar" };
  const send = (method: string, path: string, body?: Uint8Array): Promise<Answer> =>
    call(daemon, { method, path, body, headers: tarType });

  /** An answer is a refusal in words or a success; a failure of the engine itself is neither. */
  function assertKept(what: string, answer: Answer): Answer {
    assert.deepEqual(pictureOf(out), picture, `${what} reached out`);
    assert.ok(!answer.text.includes(content), `${what} gave the secret away`);
    assert.ok(
      answer.status < 500 || /^(failed to create task|cannot unpack)/.test(answer.message),
      `${what}: ${answer.text}`,
    );
    return answer;
  }

  async function built(what: string, dockerfile: string, ...members: readonly Member[]): Promise<void> {
    const context = tarOf({ name: "Dockerfile", content: dockerfile }, ...members);
    assertKept(what, await send("POST", "/build?t=made&forcerm=1&nocache=1", context));
    const { status } = await call(daemon, { method: "GET", path: "/images/made/json" });
    if (status !== 200) return;
    await wayOut(`${what}, read`, "made");
    await daemon.ok(["rmi", "-f", "made"]);
  }

  /** Everything that reads an image's tree by name: cp, export, copy-up, a build, a run. */
  async function wayOut(what: string, image: string): Promise<void> {
    const body = { Image: image, Cmd: ["true"], HostConfig: { Binds: ["filled:/l", "also:/etc"], AutoRemove: false } };
    const made = assertKept(
      `${what}: copy-up`,
      await call(daemon, { method: "POST", path: "/containers/create?name=reads", json: body }),
    );
    if (made.status !== 201)
      await call(daemon, {
        method: "POST",
        path: "/containers/create?name=reads",
        json: { Image: image, Cmd: ["true"] },
      });
    for (const path of ["/l", "/l/", "/l/secret", "/l/.", "/etc/passwd", "/h", "/"]) {
      const query = `/containers/reads/archive?path=${encodeURIComponent(path)}`;
      assertKept(`${what}: cp out of ${path}`, await call(daemon, { method: "GET", path: query }));
      assertKept(`${what}: cp to ${path}`, await send("PUT", query, tarOf({ name: "planted", content: "x" })));
    }
    assertKept(`${what}: export`, await call(daemon, { method: "GET", path: "/containers/reads/export" }));
    assertKept(`${what}: start`, await call(daemon, { method: "POST", path: "/containers/reads/start" }));
    await call(daemon, { method: "DELETE", path: "/containers/reads?force=1&v=1" });
    for (const name of ["filled", "also"]) await call(daemon, { method: "DELETE", path: `/volumes/${name}?force=1` });
  }

  for (const [name, members] of Object.entries(hostileTrees(out)))
    test(`${name}: stays inside, whatever door it takes`, async () => {
      const tar = tarOfTree(members);
      const layer = assertKept("a layer", await send("POST", "/images/create?fromSrc=-&repo=hostile", tar));
      await daemon.ok(["create", "--name", "takes", "bb", "true"]);
      for (const place of ["runs/archive?path=/tmp/in", "takes/archive?path=/tmp", "takes/archive?path=/"])
        assertKept(`an upload to ${place}`, await send("PUT", `/containers/${place}`, tar));
      await daemon.ok(["rm", "takes"]);
      await built("a context", "FROM scratch\nCOPY . /\n", ...members);
      await built("ADD", "FROM bb\nADD h.tar /in/\nCOPY --from=0 /in/l /copied/\n", { name: "h.tar", content: tar });
      if (layer.status === 200) {
        await wayOut("a layer, read", "hostile");
        await built("COPY --from", "FROM bb\nCOPY --from=hostile /l /copied/\nCOPY --from=hostile / /all/\n");
        await built("instructions", "FROM hostile\nWORKDIR /l/sub\nCOPY Dockerfile /l/\nADD Dockerfile /etc/x\n");
        await daemon.ok(["rmi", "-f", "hostile"]);
      }
    });

  test("CVE-2022-23648: a VOLUME that climbs is filled from inside the image", async () => {
    for (const target of [`/../../..${out}`, `/tmp/../../../..${out}`, "/l"]) {
      const change = encodeURIComponent(`VOLUME ["${target}"]`);
      const tar = tarOf({ name: "l", type: "2", target: out });
      assertKept(target, await send("POST", `/images/create?fromSrc=-&repo=hostile&changes=${change}`, tar));
      await wayOut(target, "hostile");
      await daemon.ok(["rmi", "-f", "hostile"]);
    }
  });

  test("CVE-2014-9357, CVE-2026-41567: programs of a container do not unpack what is sent to it", async () => {
    const planted = `#!/bin/sh\ntouch ${join(out, "planted")} /planted\nexit 1\n`;
    const names = ["xz", "unxz", "unpigz", "gzip", "zstd", "tar"];
    const programs = names.flatMap((name) => [
      { name: `bin/${name}`, content: planted, mode: 0o755 },
      { name: `usr/bin/${name}`, content: planted, mode: 0o755 },
    ]);
    assert.equal((await send("PUT", "/containers/runs/archive?path=/", tarOf(...programs))).status, 200);
    const plain = join(scratch.path, "sent.tar");
    writeFileSync(plain, tarOf({ name: "sent", content: "hello" }));
    await succeed("xz", ["-kf", plain]);
    for (const packed of [readFileSync(`${plain}.xz`)]) {
      const { status, text } = await send("PUT", "/containers/runs/archive?path=/tmp", packed);
      assert.equal(status, 200, text);
    }
    assert.equal(await daemon.ok(["exec", "runs", "cat", "/tmp/sent"]), "hello");
    assert.equal((await daemon.docker(["exec", "runs", "ls", "/planted"])).code, 1);
    assert.deepEqual(pictureOf(out), picture);
  });

  test("CVE-2024-9676: the users of an image are looked up inside it", async () => {
    const tar = tarOf(
      { name: "etc", type: "5", mode: 0o755 },
      { name: "etc/passwd", type: "2", target: "/proc/1/root/etc/passwd" },
    );
    assertKept("import", await send("POST", "/images/create?fromSrc=-&repo=hostile", tar));
    const { code, stderr } = await daemon.docker(["run", "--rm", "-u", "daemon", "hostile", "true"]);
    assert.equal(code, 125);
    assert.match(stderr, /unable to find user daemon/);
    await daemon.ok(["rmi", "-f", "hostile"]);
  });

  test("CVE-2026-42306, CVE-2018-15664: a link that changes during a copy leads nowhere", async () => {
    const swap = `while :; do ln -sfn ${out} /race; rm -f /race; mkdir -p /race; rmdir /race; done`;
    await daemon.ok(["exec", "-d", "runs", "sh", "-c", swap]);
    const tar = tarOf({ name: "planted", content: "x" });
    for (let round = 0; round < 60; round++) {
      assertKept("a copy in", await send("PUT", "/containers/runs/archive?path=/race", tar));
      assertKept(
        "a copy out",
        await call(daemon, { method: "GET", path: "/containers/runs/archive?path=/race/secret" }),
      );
    }
  });

  test("CVE-2021-21284, CVE-2021-41091, CVE-2021-41103: no user of the host walks into the roots", () => {
    for (const root of [daemon.dataRoot, daemon.execRoot]) {
      // A path below the exec root may be handed out; nobody else may look around in it.
      assert.equal(statSync(root).mode & (root === daemon.dataRoot ? 0o007 : 0o006), 0, root);
      // As in Docker: who was given a path inside may use it, the root above keeps strangers out.
      for (const entry of readdirSync(root, { withFileTypes: true }))
        if (entry.isDirectory() && entry.name !== "volumes")
          assert.equal(
            statSync(join(root, entry.name)).mode & (root === daemon.dataRoot ? 0o007 : 0o006),
            0,
            entry.name,
          );
    }
  });

  test("after all of it the daemon holds what it held before", async () => {
    await daemon.ok(["rm", "-f", "runs"]);
    await daemon.ok(["image", "prune", "-f"]);
    await assertFootprint(daemon, clean);
    assert.doesNotMatch(daemon.log(), /nobody handled|nobody waited|TypeError/);
  });
});
