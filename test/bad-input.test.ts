/**
 * Malformed and hostile requests over the socket: each has Docker's status and a message that a person can act on,
 * nothing of them stays, and the daemon goes on as it was.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { answerTo, call, rawConnection } from "./support/api.ts";
import { type BadRequest, badExecs, badRequests } from "./support/bad-requests.ts";
import { busyboxTar, type Daemon, scratchFolder, startStrata, unmountBelow } from "./support/engine.ts";
import { assertFootprint, footprintOf, residentOf } from "./support/footprint.ts";

const skip = process.getuid?.() === 0 ? false : "the daemon needs root";

/** Kilobytes: what all of this may cost a daemon that began below a hundred megabytes. */
const residentLimit = 300 * 1024;

describe("malformed requests", { skip }, () => {
  const scratch = scratchFolder();
  let daemon: Daemon;
  let clean: readonly string[];

  before(async () => {
    daemon = await startStrata({ root: join(scratch.path, "strata") });
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
    // the first container of an image leaves the image's init layer, and the first build the builder's folder
    await daemon.docker(["build", "-"], { input: "FROM bb" });
    await daemon.ok(["run", "--rm", "-v", "/v", "bb", "true"]);
    await daemon.ok(["run", "-d", "--name", "runs", "bb", "sleep", "600"]);
    await daemon.ok(["exec", "runs", "true"]);
    clean = await footprintOf(daemon);
  });

  after(async () => {
    await daemon.docker(["rm", "-f", "runs"]);
    await daemon.stop();
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  async function refused(request: BadRequest): Promise<void> {
    const { status, message, text } = await call(daemon, request);
    const what = `${request.method} ${request.path} ${String(request.body ?? "").slice(0, 200)}: ${status} ${text}`;
    assert.equal(status, request.status, what.slice(0, 2000));
    assert.match(message, request.says, what.slice(0, 2000));
    assert.doesNotMatch(message, /\n\s+at |TypeError|undefined|\[object/, what.slice(0, 2000));
  }

  test(`each of ${badRequests.length} is refused with its status and a sentence`, async () => {
    for (const request of badRequests) await refused(request);
    await assertFootprint(daemon, clean);
  });

  test("a running container takes no harm from what is asked of it wrongly", async () => {
    for (const request of badExecs("runs")) await refused(request);
    assert.equal(await daemon.ok(["exec", "runs", "echo", "fine"]), "fine");
    await assertFootprint(daemon, clean);
  });

  test("a body past 8 MiB is refused, in chunks or at once", async () => {
    const body = JSON.stringify({ Name: "x".repeat(9 * 1024 * 1024) });
    for (const headers of [{}, { "Transfer-Encoding": "chunked" }]) {
      const request = { method: "POST", path: "/volumes/create", body, headers };
      const { status, message } = await call(daemon, {
        ...request,
        headers: { ...headers, "Content-Type": "application/json" },
      });
      assert.equal(status, 400);
      assert.match(message, /larger than 8 MiB/);
    }
  });

  test("a chunked body is read as one of known length is", async () => {
    const headers = { "Content-Type": "application/json", "Transfer-Encoding": "chunked" };
    const wrong = await call(daemon, { method: "POST", path: "/volumes/create", headers, body: '{"Name":' });
    assert.deepEqual([wrong.status, wrong.message], [400, "invalid JSON: unexpected EOF"]);
    const right = await call(daemon, { method: "POST", path: "/volumes/create", headers, body: '{"Name":"chunked"}' });
    assert.equal(right.status, 201);
    await daemon.ok(["volume", "rm", "chunked"]);
  });

  test("what is no HTTP is answered with 400 or cut off", async () => {
    for (const text of [
      "\0\0\0\0\r\n\r\n",
      "GET\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      `GET /${"x".repeat(2 ** 21)} HTTP/1.1\r\n\r\n`,
    ]) {
      assert.match(await answerTo(daemon, text), /^(HTTP\/1\.1 4\d\d|$)/);
    }
    const both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
    const lie = await answerTo(daemon, `POST /volumes/create HTTP/1.1\r\nHost: e\r\n${both}\r\n\r\n0\r\n\r\n`);
    assert.match(lie, /^HTTP\/1\.1 400/);
  });

  test("a client that goes away in the middle of its headers or body leaves nothing", async () => {
    for (const text of [
      "POST /containers/create HTTP/1.1\r\nHost: e\r\n",
      'POST /containers/create HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"Image":"bb"}',
      'POST /volumes/create HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{"Name":"left',
    ]) {
      const connection = rawConnection(daemon, text);
      await once(connection, "connect");
      connection.destroy();
    }
    await assertFootprint(daemon, clean);
  });

  test("a pattern of a stranger does not hold the daemon", async () => {
    await daemon.ok(["tag", "bb", `${"a".repeat(100)}:1`]);
    await daemon.ok(["volume", "create", "a".repeat(100)]);
    await daemon.ok(["create", "--name", "a".repeat(100), "bb"]);
    const started = performance.now();
    for (const [path, key] of [
      ["/images/json", "reference"],
      ["/containers/json", "name"],
      ["/volumes", "name"],
    ] as const)
      for (const pattern of [
        `${"*a".repeat(200)}b`,
        `${"a?".repeat(100)}${"a".repeat(100)}b`,
        "(a|a)*b",
        "(.*)\\1\\1x",
      ]) {
        const filters = encodeURIComponent(JSON.stringify({ [key]: [pattern] }));
        const { status } = await call(daemon, { method: "GET", path: `${path}?all=1&filters=${filters}` });
        assert.ok(status === 200 || status === 400, `${path} ${pattern} ${status}`);
      }
    assert.ok(performance.now() - started < 15_000);
    await daemon.ok(["rm", "a".repeat(100)]);
    await daemon.ok(["volume", "rm", "a".repeat(100)]);
    await daemon.ok(["rmi", `${"a".repeat(100)}:1`]);
  });

  test("random bodies are refused or made, and never the engine's own failure", async (context) => {
    const seed = Number(process.env.STRATA_SEED ?? Date.now() % 2 ** 31);
    context.diagnostic(`seed ${seed}`);
    const member = fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...known) },
      { weight: 1, arbitrary: fc.string({ maxLength: 12 }) },
    );
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: "small" },
        fc.constantFrom<unknown>(
          null,
          true,
          false,
          0,
          -1,
          1,
          1e18,
          0.5,
          "",
          "bb",
          "/d",
          "a:/d",
          "sh",
          "\0",
          "..",
          "none",
        ),
        fc.string({ maxLength: 20 }),
        fc.array(tie("any"), { maxLength: 3 }),
        fc.dictionary(member, tie("any"), { maxKeys: 4 }),
      ),
    })).any;
    const body = fc.dictionary(member, value, { maxKeys: 5 });
    const target = fc.constantFrom(
      "/containers/create",
      "/volumes/create",
      "/networks/create",
      "/containers/runs/exec",
    );
    let made = 0;
    const property = fc.asyncProperty(target, body, async (path, json) => {
      const whole = path === "/containers/create" ? { Image: "bb", ...json } : json;
      const { status, text } = await call(daemon, { method: "POST", path, json: whole });
      if (status === 201) made++;
      assert.ok(status < 500 || status === 501, `${path} ${JSON.stringify(whole)}: ${status} ${text}`);
    });
    await fc.assert(property, { seed, numRuns: 300 });
    assert.ok(made > 0, "nothing was ever made: the bodies are all refused at the door");
    await clearAway();
    await assertFootprint(daemon, clean);
  });

  /** Removes what the random bodies made. */
  async function clearAway(): Promise<void> {
    const wordsOf = async (args: readonly string[]): Promise<readonly string[]> =>
      (await daemon.ok(args)).split("\n").filter((word) => word !== "");
    const made = await wordsOf(["ps", "-aq", "-f", "status=created"]);
    for (const id of made) await daemon.ok(["rm", "-f", "-v", id]);
    for (const path of ["/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D", "/networks/prune"])
      assert.equal((await call(daemon, { method: "POST", path })).status, 200);
  }

  test("after all of it the daemon answers, is not larger, and has no failure in its log", async () => {
    assert.equal(await daemon.ok(["run", "--rm", "bb", "echo", "still here"]), "still here");
    assert.ok(residentOf(daemon.pid) < residentLimit, `${residentOf(daemon.pid)} kB`);
    assert.doesNotMatch(daemon.log(), /nobody handled|nobody waited|a request failed/);
    await assertFootprint(daemon, clean);
  });
});

/** Members that the engine knows, so that random bodies get past the door. */
const known = [
  ..."Image Cmd Env Labels Volumes HostConfig WorkingDir Entrypoint User Hostname Healthcheck NetworkingConfig".split(
    " ",
  ),
  ..."Binds Mounts Tmpfs Type Source Target ReadOnly VolumeOptions DriverConfig Name Driver DriverOpts Options".split(
    " ",
  ),
  ..."Memory CpuShares PidsLimit CapAdd RestartPolicy NetworkMode LogConfig Ulimits Devices Sysctls SecurityOpt".split(
    " ",
  ),
  ..."EndpointsConfig IPAM Tty AttachStdout Privileged DetachKeys ExposedPorts StopSignal StopTimeout".split(" "),
];
