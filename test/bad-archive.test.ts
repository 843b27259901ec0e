/**
 * Broken and hostile archives and Dockerfiles, uploads that break off, containers that cannot be made or started: each is
 * refused in words, nothing of it stays, and nothing outside of the root it was for is touched.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { type Answer, call, rawConnection } from "./support/api.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { assertFootprint, footprintOf, residentOf } from "./support/footprint.ts";
import { type Member, paxRecord, tarMember, tarOf } from "./support/tar-bytes.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";
const tarType = { "Content-Type": "application/x-tar" };

const pax = (record: string, next: Member = { name: "a" }): Buffer =>
  tarOf({ name: "p", type: "x", content: record }, next);
const good = tarOf({ name: "a", content: "hello" }, { name: "b", content: "x".repeat(3000) });
const flipped = (data: Buffer, at: number): Buffer => {
  const copy = Buffer.from(data);
  copy[copy.length + at] = (copy.at(at) ?? 0) ^ 0xff;
  return copy;
};

/** Refused by whatever reads a tar. */
const broken: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  "random bytes": [randomBytes(65_536), /^invalid tar: .*no header/],
  "one byte": [Buffer.from("x"), /^invalid tar: unexpected EOF/],
  "a header that breaks off": [good.subarray(0, 300), /^invalid tar: unexpected EOF/],
  "a body that breaks off": [good.subarray(0, 2000), /^invalid tar: unexpected EOF/],
  "gzip that breaks off": [gzipSync(good).subarray(0, -12), /gzip|unexpected EOF/],
  "gzip with another checksum": [flipped(gzipSync(good), -6), /^the gzip data is broken/],
  "gzip with garbage behind it": [Buffer.concat([gzipSync(good), randomBytes(1000)]), /^the gzip data is broken/],
  "gzip of random bytes": [gzipSync(randomBytes(65_536)), /^invalid tar/],
  "zstd in name only": [Buffer.concat([Buffer.from("28b52ffd", "hex"), Buffer.alloc(900, 0xff)]), /^the zstd data/],
  "xz in name only": [Buffer.concat([Buffer.from("fd377a585a00", "hex"), Buffer.alloc(900, 0xff)]), /^the xz data/],
  "a wrong checksum": [tarOf({ name: "a", checksum: "000000\0 " }), /checksum/],
  "a size past the end": [tarOf({ name: "a", patch: [124, "77777777777\0"] }), /^invalid tar: unexpected EOF in "a"/],
  "a negative size": [tarOf({ name: "a", patch: [124, "\xff".repeat(12)] }), /negative size/],
  "a size that is no number": [tarOf({ name: "a", patch: [124, "zzzzzzzzzzz\0"] }), /broken number/],
  "a size of 2^63": [tarOf({ name: "a", patch: [124, `\x80\0\0\0\x7f${"\xff".repeat(7)}`] }), /broken number/],
  "an owner that no system has": [tarOf({ name: "a", patch: [108, "\x80\0\0\x7f\xff\xff\xff\xff"] }), /has the owner/],
  "a name that leads out": [tarOf({ name: "../../../../tmp/strata-canary", content: "x" }), /outside|leads out/],
  "a hard link that leads out": [tarOf({ name: "h", type: "1", target: "../../../etc/passwd" }), /outside|leads out/],
  "a pax record of a wrong length": [pax("99 path=x\n"), /broken extended header/],
  "a pax path with a NUL": [pax(paxRecord("path", "a\0b")), /NUL in its extended header/],
  "a pax path of 5000 bytes": [pax(paxRecord("path", "x".repeat(5000))), /xxx|name is not usable/],
  "a pax path of 100000 folders": [pax(paxRecord("path", `${"d/".repeat(100_000)}f`)), /d\/d|name is not usable/],
  "a negative pax size": [pax(paxRecord("size", "-5")), /negative size/],
  "a pax size past 2^64": [pax(paxRecord("size", "99999999999999999999")), /has the size/],
  "a pax header of a gigabyte": [tarMember({ name: "p", type: "x", size: 2 ** 30 - 1, content: "x" }), /limit 1 MiB/],
  "a pax header that unpacks to 64 MiB": [
    gzipSync(Buffer.concat([tarMember({ name: "p", type: "x", size: 2 ** 26 }), Buffer.alloc(2 ** 26)])),
    /limit 1 MiB/,
  ],
};

/** Refused where a tree is made of it; `docker load` never gets that far. */
const unusable: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  "a hard link to what is not there": [tarOf({ name: "h", type: "1", target: "/etc/passwd" }), /does not exist/],
  "a hard link to itself": [tarOf({ name: "h", type: "1", target: "h" }), /does not exist/],
  "the device 0:0": [tarOf({ name: "w", type: "3", device: [0, 0] }), /character device 0:0/],
  "a device of no kernel's": [tarOf({ name: "w", type: "3", patch: [329, "77777777"] }), /has the number/],
  "an attribute of 100000 bytes": [pax(paxRecord("SCHILY.xattr.user.x", "y".repeat(100_000))), /cannot unpack "a"/],
};

/** Refused in a layer only. */
const noLayer: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  "a root that is a file": [tarOf({ name: ".", content: "x" }), /would make the root a file/],
  "a root that is a link": [tarOf({ name: "./", type: "2", target: "/tmp" }), /would make the root a symlink/],
  "a whiteout of nothing": [tarOf({ name: ".wh." }), /invalid whiteout/],
  "a whiteout of the folder itself": [tarOf({ name: "d/.wh.." }), /invalid whiteout/],
  "a whiteout of the folder above": [tarOf({ name: "d/.wh..." }), /invalid whiteout/],
};

const link = (target: string): Buffer =>
  tarOf({ name: "l", type: "2", target }, { name: "l/strata-canary", content: "x" });

/** Taken, inside the root. */
const contained: Readonly<Record<string, Buffer>> = {
  "an absolute name": tarOf({ name: "/tmp/strata-canary", content: "x" }),
  "a write through an absolute link": link("/tmp"),
  "a write through a link upwards": link("../../../../../../../../tmp"),
  "attributes that overlayfs would follow": pax(paxRecord("SCHILY.xattr.trusted.overlay.redirect", "/etc"), {
    name: "d",
    type: "5",
    mode: 0o755,
  }),
};

const dockerfiles: readonly (readonly [string, string, RegExp])[] = [
  ["nothing", "", /cannot be empty|no instructions/],
  ["no FROM", "RUN true\n", /no build stage|FROM/],
  ["an unknown instruction", "FROM bb\nFOO bar\n", /unknown instruction: FOO/],
  ["an image that is not here", "FROM nosuch\n", /nosuch/],
  ["a broken image name", "FROM a//b\n", /invalid reference format/],
  ["a build argument in FROM that is not there", "FROM $NOPE\n", /base name .* should not be blank|FROM/],
  [
    "a COPY from above",
    "FROM bb\nCOPY ../../etc/passwd /x\n",
    /forbidden path outside|not found|outside the build context/i,
  ],
  ["a COPY of an absolute path", "FROM bb\nCOPY /etc/passwd /x\n", /not found|no such file|stat/i],
  ["a COPY of nothing", "FROM bb\nCOPY nothing-* /x\n", /no source files|not found/i],
  ["a COPY from a stage that is not there", "FROM bb\nCOPY --from=nope /a /b\n", /nope/],
  ["a COPY from a stage still to come", "FROM bb\nCOPY --from=1 /a /b\nFROM bb\n", /1/],
  ["a flag that nobody knows", "FROM bb\nCOPY --odd=1 a b\n", /odd/i],
  ["a trigger in a trigger", "FROM bb\nONBUILD ONBUILD RUN true\n", /ONBUILD/],
  ["a FROM in a trigger", "FROM bb\nONBUILD FROM bb\n", /FROM isn't allowed as an ONBUILD trigger/],
  ["a USER without a name", "FROM bb\nUSER\n", /USER requires exactly one argument/],
  ["an ENV without a value", "FROM bb\nENV =x\n", /ENV/],
  ["a signal that is none", "FROM bb\nSTOPSIGNAL NOPE\n", /signal/i],
  ["a port that is none", "FROM bb\nEXPOSE 99999999\n", /port/i],
  ["a command of 200000 bytes", `FROM bb\nRUN echo ${"x".repeat(200_000)}\n`, /too long/],
  ["a NUL", "FROM bb\nENV A=x\0y\nRUN true\n", /NUL|parse error|null/i],
  ["a command that fails", "FROM bb\nRUN exit 7\n", /returned a non-zero code: 7/],
  ["a user that the image does not have", "FROM bb\nUSER nobody-here\nRUN true\n", /unable to find user nobody-here/],
  ["a workdir that is a file", "FROM bb\nWORKDIR /etc/passwd\nRUN true\n", /etc\/passwd/],
  ["a volume at the root", "FROM bb\nVOLUME /\nRUN true\n", /destination can't be '\/'/],
];

describe("broken and hostile archives", { skip }, () => {
  const scratch = scratchFolder();
  let daemon: Daemon;
  let clean: readonly string[];

  before(async () => {
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
    await daemon.docker(["build", "-"], { input: "FROM bb\nRUN exit 1" });
    await daemon.docker(["load"], { input: "no tar" });
    await daemon.ok(["run", "-d", "--name", "runs", "bb", "sleep", "600"]);
    await daemon.ok(["exec", "runs", "touch", "/tmp/x"]);
    await daemon.ok(["exec", "runs", "rm", "/tmp/x"]);
    clean = await footprintOf(daemon);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "runs"]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  const importing = { method: "POST", path: "/images/create?fromSrc=-" };
  const loading = { method: "POST", path: "/images/load" };
  const copying = { method: "PUT", path: "/containers/runs/archive?path=/tmp" };
  const building = { method: "POST", path: "/build" };
  type Way = typeof importing;
  const upload = (way: Way, body: Uint8Array): Promise<Answer> => call(daemon, { ...way, body, headers: tarType });

  async function refusedBy(ways: readonly Way[], archives: typeof broken): Promise<void> {
    for (const [name, [body, says]] of Object.entries(archives))
      for (const way of ways) {
        const { status, message, text } = await upload(way, body);
        const what = `${way.path} of ${name}: ${status} ${text.slice(0, 500)}`;
        // A load tells its failure in its messages, as dockerd's does.
        const told = way === loading ? String(JSON.parse(text).error) : message;
        assert.equal(status, way === loading ? 200 : 400, what);
        assert.match(told, says, what);
      }
    assert.ok(!existsSync("/tmp/strata-canary"));
    await emptyTmp();
    await assertFootprint(daemon, clean);
  }

  /** What a copy into a container has brought before it fails stays, as with tar. */
  const emptyTmp = (): Promise<string> => daemon.ok(["exec", "runs", "sh", "-c", "rm -rf /tmp/*"]);

  test("an archive that is broken is refused by import, load, cp and build, and leaves nothing", () =>
    refusedBy([importing, loading, copying, building], broken));

  test("an archive that cannot become a tree is refused, and leaves nothing", async () => {
    await refusedBy([importing, copying, building], unusable);
    await refusedBy([importing], noLayer);
  });

  test("names and links of strangers stay inside the root", async () => {
    for (const [name, body] of Object.entries(contained)) {
      const { status, text } = await upload(importing, body);
      assert.equal(status, 200, `${name}: ${text}`);
      const { status: copied, text: said } = await upload(copying, body);
      assert.equal(copied, 200, `${name}: ${said}`);
      assert.ok(!existsSync("/tmp/strata-canary"), `${name} was written on the host`);
      assert.equal(await daemon.ok(["exec", "runs", "sh", "-c", "cat /etc/passwd | wc -l"]), "2", name);
    }
    await emptyTmp();
    await daemon.ok(["image", "prune", "-f"]);
    await assertFootprint(daemon, clean);
  });

  test("an upload that breaks off leaves nothing, wherever it breaks off", async () => {
    const whole = readFileSync(join(scratch.path, "bb.tar"));
    const save = Buffer.from(await call(daemon, { method: "GET", path: "/images/bb/get" }).then(({ text }) => text));
    const context = tarOf({ name: "Dockerfile", content: "FROM bb\nCOPY big /\n" }, { name: "big", content: whole });
    for (const [way, body] of [
      [importing, whole],
      [loading, save],
      [copying, whole],
      [building, context],
    ] as const)
      for (const [at, framing] of [
        [100, "Content-Length: 99999999\r\n\r\n"],
        [Math.floor(body.length / 2), "Content-Length: 99999999\r\n\r\n"],
        [Math.floor(body.length / 3), "Transfer-Encoding: chunked\r\n\r\nffffff\r\n"],
      ] as const) {
        const head = `${way.method} ${way.path} HTTP/1.1\r\nHost: e\r\nContent-Type: application/x-tar\r\n${framing}`;
        const connection = rawConnection(daemon, head, body.subarray(0, at));
        await sleep(60);
        connection.destroy();
      }
    await emptyTmp();
    await assertFootprint(daemon, clean);
  });

  test("hostile Dockerfiles are refused in words, and leave nothing", async () => {
    const failed: string[] = [];
    for (const [name, text, says] of dockerfiles) {
      const body = tarOf({ name: "Dockerfile", content: text }, { name: "a", content: "a" });
      const answer = await upload({ ...building, path: "/build?forcerm=1" }, body);
      const last = answer.text.trim().split("\r\n").at(-1) ?? "";
      const message = answer.message || String(Object(JSON.parse(last)).error ?? "");
      if (answer.status >= 500 || !says.test(message))
        failed.push(`${name}: ${answer.status} ${answer.text.slice(-500)}`);
    }
    assert.deepEqual(failed, []);
    await daemon.ok(["image", "prune", "-f"]);
    await assertFootprint(daemon, clean);
  });

  test("containers that cannot be made leave no volume, layer, folder or name", async () => {
    for (const args of [
      ["-v", "left1:/d", "--mount", "type=bind,src=/nonexistent,dst=/e"],
      ["-v", "left1:/d", "-v", "left2:/d"],
      ["-v", "left1:/d", "--mount", "type=volume,src=left2,dst=/e,volume-driver=nope"],
      ["-v", "left1:/d", "-v", "two words:/e"],
      ["-v", "left1:/d", "-v", "/etc/passwd"],
      ["-v", "left1:/d", "-v", "left2:/etc/passwd/x"],
      ["-v", "left1:/d", "--cap-add", "NOPE"],
      ["-v", "left1:/d", "--volumes-from", "nobody"],
      ["-v", "left1:/d", "--network", "container:nobody"],
      ["-v", "left1:/d", "--storage-opt", "odd=1"],
    ]) {
      const { code, stderr } = await daemon.docker(["create", "--name", "left", ...args, "bb"]);
      assert.equal(code, 1, args.join(" "));
      assert.doesNotMatch(stderr, /Unable to find image/, args.join(" "));
      assert.match(stderr, /Error response from daemon: \w/);
    }
    await assertFootprint(daemon, clean);
  });

  test("containers that cannot start have Docker's exit code, and leave neither mount nor process", async () => {
    for (const [args, code, says] of [
      [["bb", "no-such-command"], 127, /executable file not found/],
      [["bb", "/etc"], 126, /permission denied/],
      [["bb", "/etc/passwd"], 126, /permission denied/],
      [["-w", "/etc/passwd", "bb", "true"], 125, /not a directory/],
      [["-u", "nobody-here", "bb", "true"], 125, /unable to find user nobody-here/],
      [["--group-add", "no-group", "bb", "true"], 125, /no-group/],
      [["--tmpfs", "/etc/passwd", "bb", "true"], 125, /not a directory/],
      [["--device", "/dev/nothing", "bb", "true"], 127, /no such file/],
      [["--network", "nonet", "bb", "true"], 125, /network nonet not found/],
    ] as const) {
      const run = await daemon.docker(["run", "-v", "/anonymous", "--name", "left", ...args]);
      assert.equal(run.code, code, `${args.join(" ")}: ${run.stderr}`);
      assert.match(run.stderr, says, args.join(" "));
      const state = await daemon.ok(["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "left"]);
      assert.equal(state, "created 0", args.join(" "));
      // By its id: a layer that was just measured may have had a mount of its own for a moment.
      const id = await daemon.ok(["inspect", "-f", "{{.Id}}", "left"]);
      assert.ok(!readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").includes(id), args.join(" "));
      await daemon.ok(["rm", "-v", "left"]);
    }
    await assertFootprint(daemon, clean);
  });

  test("after all of it the daemon answers, is not larger, and has no failure in its log", async () => {
    assert.equal(await daemon.ok(["run", "--rm", "bb", "echo", "still here"]), "still here");
    assert.ok(residentOf(daemon.pid) < 400 * 1024, `${residentOf(daemon.pid)} kB`);
    assert.doesNotMatch(daemon.log(), /nobody handled|nobody waited|a request failed/);
  });
});
