/** Builds on the real kernel, through the engine: runc, the storage driver and every store take part. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Engine, openEngine } from "../engine.ts";
import { type BuildMessage, type BuildOptions, BuildStepError } from "./builder.ts";

const busybox = ["/bin/busybox", "/usr/bin/busybox"].find(existsSync);
const skip = process.getuid?.() !== 0 ? "needs root" : busybox === undefined ? "needs busybox-static" : false;

type Files = Readonly<Record<string, string | Uint8Array>>;
type Result = { readonly id: string; readonly output: string; readonly messages: readonly BuildMessage[] };

describe("builds", { skip }, () => {
  let root = "";
  let engine: Engine;
  const stack = new AsyncDisposableStack();

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "build-"));
    stack.defer(() => rm(root, { recursive: true, force: true }));
    engine = stack.use(await openEngine({ dataRoot: join(root, "data"), execRoot: join(root, "exec") }));
    await engine.transfer.importImage(stream(await baseTar()), {
      reference: "base:1",
      message: "",
      changes: ["ENV PATH=/bin", 'CMD ["sh"]'],
      platform: undefined,
    });
  });

  after(async () => {
    assert.deepEqual(engine.containers.list({ all: true, filters: new Map() }), [], "a container is left");
    assert.deepEqual(await readdir(join(root, "data/staging-build")).catch(() => []), [], "a context is left");
    assert.deepEqual(await readdir(join(root, "exec/mnt")), [], "a mount is left");
    await stack.disposeAsync();
  });

  async function baseTar(): Promise<Buffer> {
    const tree = join(root, "base");
    for (const path of ["bin", "etc", "real/inner", "existing"]) await mkdir(join(tree, path), { recursive: true });
    execFileSync("cp", [busybox ?? "", join(tree, "bin/busybox")]);
    for (const name of ["sh", "cat", "echo", "sleep", "stat", "test", "true", "readlink", "mkdir"])
      await symlink("busybox", join(tree, "bin", name));
    await writeFile(join(tree, "etc/passwd"), "root:x:0:0::/:/bin/sh\nbob:x:1000:1001::/:/bin/sh\n");
    await writeFile(join(tree, "etc/group"), "staff:x:50:\n");
    await symlink("/real/inner", join(tree, "link"));
    await symlink("/etc", join(tree, "existing/outside"));
    await chmod(join(tree, "existing"), 0o2770);
    return execFileSync("tar", ["-C", tree, "-c", "--owner=0", "--group=0", "."], { maxBuffer: 2 ** 26 });
  }

  const stream = async function* (bytes: Uint8Array): AsyncIterable<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536);
  };

  async function contextOf(files: Files): Promise<Buffer> {
    const folder = await mkdtemp(join(root, "context-"));
    for (const [name, content] of Object.entries(files)) {
      await mkdir(join(folder, name, ".."), { recursive: true });
      await writeFile(join(folder, name), content);
    }
    return execFileSync("tar", ["-C", folder, "-c", "."], { maxBuffer: 2 ** 26 });
  }

  async function build(dockerfile: string, files: Files = {}, options: Partial<BuildOptions> = {}): Promise<Result> {
    const messages: BuildMessage[] = [];
    const context = await contextOf({ Dockerfile: dockerfile, ...files });
    const all: BuildOptions = { ...defaults, signal: new AbortController().signal, ...options };
    const id = await engine.builder.build(stream(context), all, (message) => messages.push(message));
    const output = messages.map((message) => String(message.stream ?? "")).join("");
    return { id, output, messages };
  }

  const defaults = {
    dockerfile: "Dockerfile",
    tags: [],
    buildArgs: {},
    labels: {},
    target: undefined,
    noCache: false,
    remove: true,
    forceRemove: false,
    cacheFrom: [],
    networkMode: "default",
    extraHosts: [],
    quiet: false,
    memory: 0,
    cpuShares: 0,
    shmSize: 0,
  };

  const idOf = (id: string) => engine.images.get(id);
  /** What `script` says when it runs over the image that `dockerfile` makes. */
  const said = async (dockerfile: string, script: string, files: Files = {}): Promise<string> => {
    const { output } = await build(`${dockerfile}\nRUN ${script}`, files, { noCache: true });
    const lines = output.split("\n");
    const from = lines.findLastIndex((line) => line.startsWith(" ---> Running in"));
    return lines
      .slice(
        from + 1,
        lines.findLastIndex((line) => line.startsWith("Removing intermediate")),
      )
      .join("\n");
  };

  test("instructions become config, history and layers, as with the classic builder", async () => {
    const dockerfile = [
      "ARG TAG=1",
      "FROM base:$TAG",
      'LABEL a=b "c d"="e f"',
      'ENV A=1 B="two words" P=$PATH:/x',
      "ARG X=5",
      "EXPOSE 80 443/udp",
      "WORKDIR /app",
      "WORKDIR sub",
      'VOLUME ["/data"]',
      "STOPSIGNAL SIGTERM",
      'ENTRYPOINT ["echo"]',
      "CMD a b",
      "MAINTAINER me",
      "COPY f /copied/",
      "RUN echo $A $X $B > out",
      "RUN true",
    ].join("\n");
    const { id } = await build(dockerfile, { f: "hi\n" });
    const { config, diffIds } = idOf(id);
    assert.deepEqual(config.config?.Env, ["PATH=/bin", "A=1", "B=two words", "P=/bin:/x"]);
    assert.deepEqual(config.config?.Cmd, ["/bin/sh", "-c", "a b"]);
    assert.deepEqual(config.config?.Labels, { a: "b", "c d": "e f" });
    assert.deepEqual(
      [config.config?.WorkingDir, config.config?.StopSignal, config.author],
      ["/app/sub", "SIGTERM", "me"],
    );
    assert.deepEqual(config.config?.ExposedPorts, { "80/tcp": {}, "443/udp": {} });
    // base, two WORKDIRs, COPY, RUN; a RUN that changes nothing makes none
    assert.equal(diffIds.length, 5);
    const history = (config.history ?? []).slice(1).map((entry) => [entry.created_by, entry.empty_layer === true]);
    assert.deepEqual(
      history.map(([name, empty]) => [String(name).replace(/[0-9a-f]{64}/, "HEX"), empty]),
      [
        ["/bin/sh -c #(nop)  LABEL a=b c d=e f", true],
        ["/bin/sh -c #(nop)  ENV A=1 B=two words P=/bin:/x", true],
        ["/bin/sh -c #(nop)  ARG X=5", true],
        ["/bin/sh -c #(nop)  EXPOSE 443/udp 80", true],
        ["/bin/sh -c #(nop) WORKDIR /app", false],
        ["/bin/sh -c #(nop) WORKDIR /app/sub", false],
        ["/bin/sh -c #(nop)  VOLUME [/data]", true],
        ["/bin/sh -c #(nop)  STOPSIGNAL SIGTERM", true],
        ['/bin/sh -c #(nop)  ENTRYPOINT ["echo"]', true],
        ['/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "a b"]', true],
        ["/bin/sh -c #(nop)  MAINTAINER me", true],
        ["/bin/sh -c #(nop) COPY file:HEX in /copied/ ", false],
        ["|1 X=5 /bin/sh -c echo $A $X $B > out", false],
        ["|1 X=5 /bin/sh -c true", true],
      ],
    );
  });

  test("the second build comes from the cache; a changed file, argument or --no-cache does not", async () => {
    const dockerfile = "FROM base:1\nARG V\nCOPY f /\nRUN echo $V > /v\nCMD x";
    const first = await build(dockerfile, { f: "1" });
    const again = await build(dockerfile, { f: "1" });
    assert.equal(again.id, first.id);
    assert.equal(again.output.match(/Using cache/g)?.length, 4);
    assert.notEqual((await build(dockerfile, { f: "2" })).id, first.id);
    const other = await build(dockerfile, { f: "1" }, { buildArgs: { V: "2" } });
    assert.equal(other.output.match(/Using cache/g)?.length, 2);
    assert.doesNotMatch((await build(dockerfile, { f: "1" }, { noCache: true })).output, /Using cache/);
    const { parent } = idOf(first.id);
    assert.deepEqual(idOf(parent ?? "").references, []);
  });

  test("an image that was loaded is no cache, whatever history it claims (CVE-2024-24557), unless it is named by --cache-from", async () => {
    const dockerfile = "FROM base:1\nRUN echo honest > /who";
    const { id } = await build(dockerfile, {}, { tags: ["claims:1"] });
    const chunks: Uint8Array[] = [];
    for await (const chunk of engine.transfer.save(["claims:1"])) chunks.push(chunk);
    await engine.images.remove("claims:1", { force: true, prune: true, usedBy: () => [] });
    await engine.transfer.load(stream(Buffer.concat(chunks)), () => undefined);
    assert.equal(idOf("claims:1").local, false);
    const named = await build(dockerfile, {}, { cacheFrom: ["claims:1"] });
    assert.match(named.output, /Using cache/);
    assert.deepEqual(idOf(named.id).diffIds, idOf(id).diffIds);
    await engine.images.remove(named.id, { force: true, prune: true, usedBy: () => [] });
    assert.doesNotMatch((await build(dockerfile)).output, /Using cache/);
  });

  test("the output is the classic builder's, word for word", async () => {
    const { output, messages, id } = await build(
      "FROM base:1\nRUN echo out; echo err >&2\nCMD x",
      {},
      {
        tags: ["said:1", "said:2"],
        buildArgs: { NOPE: "1" },
        noCache: true,
      },
    );
    const said = output.replaceAll(/\b[0-9a-f]{12}\b/g, "ID").split("\n");
    const sorted = [said.slice(0, 4), said.slice(4, 6).sort(), said.slice(6)].flat();
    assert.deepEqual(sorted, [
      "Step 1/3 : FROM base:1",
      " ---> ID",
      "Step 2/3 : RUN echo out; echo err >&2",
      " ---> Running in ID",
      "\x1b[91merr",
      "out",
      "\x1b[0mRemoving intermediate container ID",
      " ---> ID",
      "Step 3/3 : CMD x",
      " ---> ID",
      "[Warning] One or more build-args [NOPE] were not consumed",
      "Successfully built ID",
      "Successfully tagged said:1",
      "Successfully tagged said:2",
      "",
    ]);
    assert.deepEqual(
      messages.filter((message) => "aux" in message),
      [{ aux: { ID: id } }],
    );
  });

  test("quiet says the id only, and everything when it fails", async () => {
    const { output, id } = await build("FROM base:1\nRUN echo loud", {}, { quiet: true, noCache: true });
    assert.equal(output, `${id}\n`);
    const messages: BuildMessage[] = [];
    const context = await contextOf({ Dockerfile: "FROM base:1\nRUN echo loud; exit 3" });
    const options = { ...defaults, quiet: true, signal: new AbortController().signal };
    await assert.rejects(engine.builder.build(stream(context), options, (message) => messages.push(message)));
    assert.match(messages.map((message) => message.stream).join(""), /Step 2\/2.*loud/s);
  });

  test("a command that fails ends the build with its exit code, and leaves no container", async () => {
    await assert.rejects(build("FROM base:1\nRUN exit 3"), (error) => {
      assert.ok(error instanceof BuildStepError);
      assert.deepEqual(
        [error.message, error.exitCode],
        ["The command '/bin/sh -c exit 3' returned a non-zero code: 3", 3],
      );
      return true;
    });
    await assert.rejects(build('FROM base:1\nRUN ["nosuch"]'), /executable file not found in \$PATH/);
    assert.deepEqual(engine.containers.list({ all: true, filters: new Map() }), []);
  });

  test("a build that is cancelled kills its container and leaves nothing", async () => {
    const controller = new AbortController();
    const context = await contextOf({ Dockerfile: "FROM base:1\nRUN echo ready; sleep 60" });
    const begun = Date.now();
    const building = engine.builder.build(stream(context), { ...defaults, signal: controller.signal }, (message) => {
      if (message.stream === "ready\n") controller.abort();
    });
    await assert.rejects(building, { code: "canceled" });
    assert.ok(Date.now() - begun < 30_000);
    assert.deepEqual(engine.containers.list({ all: true, filters: new Map() }), []);
    assert.deepEqual(await readdir(join(root, "data/staging-build")), []);
  });

  test("COPY follows symlinks inside the image, keeps what exists, and makes what is missing for its owner", async () => {
    const files = { "d/e/x": "x", "d/y": "y", f: "f" };
    const list = (copy: string, path: string) => said(`FROM base:1\n${copy}`, `stat -c '%a %u:%g' ${path}`, files);
    assert.equal(await list("COPY f /existing/", "/existing /existing/f"), "2770 0:0\n644 0:0");
    assert.equal(await list("COPY f /link/", "/link /real/inner/f"), "777 0:0\n644 0:0");
    assert.equal(await list("COPY f /existing/outside/g", "/etc/g"), "644 0:0");
    assert.equal(await list("COPY --chown=bob:staff f /new/er/", "/new /new/er/f"), "755 1000:50\n644 1000:50");
    assert.equal(await list("COPY --chmod=0640 d /m", "/m /m/y"), "755 0:0\n640 0:0");
    assert.equal(await list("COPY d /d2/", "/d2/e/x /d2/y"), "644 0:0\n644 0:0");
    assert.equal(await list('WORKDIR /w\nCOPY ["f", "s p/"]', "'/w/s p/f'"), "644 0:0");
    assert.equal(await list("COPY d/*/x? d/? /g/", "/g/y"), "644 0:0");
  });

  const refused: readonly (readonly [string, RegExp])[] = [
    [
      "COPY nosuch /x",
      /^COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist$/,
    ],
    ["COPY no* /x", /^COPY failed: no source files were specified$/],
    ["COPY ../x /x", /^COPY failed: forbidden path outside the build context: \.\.\/x \(\)$/],
    [
      "COPY f d /x",
      /^When using COPY with more than one source file, the destination must be a directory and end with a \/$/,
    ],
    ["COPY d /bin/busybox", /not a directory$/],
    ["COPY f /bin/busybox/z", /not a directory$/],
    ["COPY --from=nosuch f /x", /^invalid from flag value nosuch: No such image: nosuch/],
    ["COPY --from=5 f /x", /^invalid from flag value 5: index out of bounds$/],
    ["COPY --chown=nobody2 f /x", /can't find uid for user nobody2: no such user: nobody2$/],
    ["ADD https://user:secret@host/x?token=1 /x", /^ADD failed: fetching https:\/\/host\/x is not supported/],
    ["COPY w /w", /a name that begins with \.wh\. cannot be in an image$/],
    ["EXPOSE 99999", /^Invalid containerPort: 99999$/],
  ];
  for (const [instruction, message] of refused)
    test(`${instruction} is refused`, async () => {
      const files = { f: "f", "d/y": "y", "w/.wh.f": "" };
      await assert.rejects(build(`FROM base:1\n${instruction}`, files), { message });
    });

  test("ADD unpacks an archive, COPY does not; a symlink in the context leads nowhere else", async () => {
    const folder = await mkdtemp(join(root, "tree-"));
    await writeFile(join(folder, "in"), "in");
    execFileSync("chown", ["5:6", join(folder, "in")]);
    const tgz = execFileSync("tar", ["-C", folder, "-cz", "in"]);
    assert.equal(await said("FROM base:1\nADD a.tgz /ex", "stat -c '%u:%g' /ex/in", { "a.tgz": tgz }), "5:6");
    assert.equal(await said("FROM base:1\nADD --chown=7 a.tgz /ex", "stat -c '%u:%g' /ex/in", { "a.tgz": tgz }), "7:7");
    assert.equal(await said("FROM base:1\nCOPY a.tgz /ex/", "test -f /ex/a.tgz && echo yes", { "a.tgz": tgz }), "yes");
    await symlink("/etc/hostname", join(folder, "escape"));
    await writeFile(join(folder, "Dockerfile"), "FROM base:1\nCOPY escape /x");
    const context = execFileSync("tar", ["-C", folder, "-c", "."]);
    const options = { ...defaults, signal: new AbortController().signal };
    await assert.rejects(
      engine.builder.build(stream(context), options, () => undefined),
      /file not found in build context/,
    );
  });

  test("stages: from one another, by name and number, up to the target", async () => {
    const dockerfile = [
      "FROM base:1 AS a",
      "RUN echo from-a > /a; mkdir /o; busybox chown 3:4 /a || true",
      "FROM base:1 AS b",
      "COPY --from=a /a /a1",
      "COPY --from=0 /a /a2",
      "COPY --from=base:1 /etc/group /g",
      "FROM b AS c",
      "RUN exit 9",
    ].join("\n");
    const { output } = await build(dockerfile, {}, { target: "b", labels: { l: "1" }, tags: ["b:1"] });
    assert.match(output, /Step 7\/7 : LABEL l=1/);
    assert.equal(await said("FROM b:1", "cat /a1 /a2 /g"), "from-a\nfrom-a\nstaff:x:50:");
    assert.deepEqual(idOf("b:1").config.config?.Labels, { l: "1" });
  });

  test("triggers of ONBUILD run in the child, once", async () => {
    await build("FROM base:1\nONBUILD COPY f /on\nONBUILD RUN echo on", {}, { tags: ["onb:1"] });
    const child = await build("FROM onb:1\nRUN cat /on", { f: "file\n" }, { tags: ["child:1"], noCache: true });
    assert.match(child.output, /# Executing 2 build triggers\n.*\non\n/s);
    assert.match(child.output, /\nfile\n/);
    assert.equal(idOf("child:1").config.config?.OnBuild, undefined);
  });

  test("scratch: an image out of nothing", async () => {
    const { id } = await build("FROM scratch\nCOPY f /\nCMD x", { f: "f" });
    assert.equal(idOf(id).diffIds.length, 1);
    await assert.rejects(build("FROM scratch"), { message: "No image was generated. Is your Dockerfile empty?" });
  });

  test("proxies reach RUN without ARG and stay out of the history", async () => {
    const { output, id } = await build(
      "FROM base:1\nRUN echo p=$HTTP_PROXY",
      {},
      { buildArgs: { HTTP_PROXY: "secret" }, noCache: true },
    );
    assert.match(output, /p=secret/);
    assert.doesNotMatch(idOf(id).bytes, /secret/);
  });

  test("the Dockerfile is where it is said to be; .dockerignore takes it out of the context", async () => {
    const files = { "sub/My.df": "FROM base:1\nCOPY . /all", f: "f", ".dockerignore": "sub/My.df\nDockerfile" };
    const { id } = await build("ignored", files, { dockerfile: "sub/My.df" });
    engine.images.get(id);
    await assert.rejects(build("FROM base:1", {}, { dockerfile: "nosuch" }), {
      message: "Cannot locate specified Dockerfile: nosuch",
    });
    await assert.rejects(build("FROM base:1", {}, { dockerfile: "../../../etc/hostname" }), {
      code: "invalid_argument",
    });
    await assert.rejects(build(""), { message: "the Dockerfile (Dockerfile) cannot be empty" });
    assert.equal(
      await said("FROM base:1\nCOPY . /all", "test -e /all/Dockerfile || echo no", { ".dockerignore": "Dockerfile" }),
      "no",
    );
  });

  test("twenty builds of one Dockerfile at once make the same files", async () => {
    const builds = Array.from({ length: 20 }, () => build("FROM base:1\nCOPY f /\nRUN echo x > /x", { f: "f" }));
    const results = await Promise.all(builds);
    assert.equal(new Set(results.map(({ id }) => idOf(id).diffIds[1])).size <= 2, true);
  });
});
