/**
 * A data root that a stock dockerd wrote, with all that an adoption must bring, and what dockerd said of it; what any
 * engine says of the same objects; and a picture of a whole tree, to see that nothing was written.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describeTree } from "../../src/archive/tree.fixture.ts";
import { TarWriter } from "../../src/archive/write-tar.ts";
import { busyboxTar, type Daemon, startDockerd, succeed } from "./engine.ts";

const v2Capability = Buffer.from("0100000200040000000000000000000000000000", "hex");

/** What a plain `tar` cannot be asked for. */
async function oddTar(): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const tar = new TarWriter(async (chunk) => void chunks.push(chunk));
  const old = { mode: 0o644, mtime: 1_234_567_890 };
  const file = async (path: string, content: string, more: object = {}): Promise<void> =>
    tar.add({ path, type: "file", ...old, ...more }, Buffer.from(content));
  for (const path of ["data/", "data/x/", "data/kept/", "data/opaque/"])
    await tar.add({ path, type: "directory", ...old, mode: 0o751, uid: 7, gid: 8 });
  await file("data/one", "one");
  await tar.add({ path: "data/same", type: "link", link: "data/one", ...old });
  await file("data/x/gone", "will be removed");
  await file("data/opaque/below", "will be hidden");
  await file("data/capable", "#!", { mode: 0o4755, xattrs: new Map([["security.capability", v2Capability]]) });
  await file("data/labelled", "x", { xattrs: new Map([["user.note", Buffer.from("kept")]]), uid: 1000, gid: 1000 });
  await file(`data/${"long".repeat(40)}`, "a name beyond a header's field");
  await file("data/n\u00e4me", "not ASCII");
  await tar.add({ path: "data/fifo", type: "fifo", ...old });
  await tar.add({ path: "data/null", type: "char", ...old, major: 1, minor: 3 });
  await tar.add({ path: "data/link", type: "symlink", link: "../../nowhere", ...old, mode: 0o777 });
  await file("data/large", "0123456789".repeat(60_000));
  await tar.finish();
  return Buffer.concat(chunks);
}

const dockerfile = `FROM odd:1
RUN rm /data/x/gone && ln /data/capable /data/x/link && chmod 600 /data/one
RUN rm -r /data/opaque && mkdir /data/opaque && echo fresh >/data/opaque/above
RUN true
ENV STORY=told
LABEL made=here
VOLUME /from-image
CMD ["sh"]
`;

const changes = [
  "rm /data/kept -r",
  "echo more >>/data/n\u00e4me",
  "ln /data/large /data/larger",
  "mkdir -p /new/deep && echo x >/new/deep/file && chmod 4711 /new/deep/file && chown 5:6 /new",
  "mkfifo /new/pipe",
  "rm -r /data/opaque && mkdir /data/opaque && echo again >/data/opaque/own",
  "echo out; echo err >&2; printf tail",
  "echo volume >/vol/file; echo anonymous >/from-image/file",
  "exit 3",
].join("; ");

/** Starts dockerd on `dataRoot`, makes everything, and hands the running daemon over. */
export async function makeDockerRoot(scratch: string, dataRoot: string, driver: string): Promise<Daemon> {
  mkdirSync(dataRoot, { recursive: true });
  const daemon = await startDockerd(join(scratch, `dockerd-${driver}`), dataRoot, driver);
  try {
    await fill(daemon, scratch);
    return daemon;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

async function fill({ ok, docker }: Daemon, scratch: string): Promise<void> {
  await ok(["import", await busyboxTar(join(scratch, "busybox.tar")), "busybox"]);
  await ok([
    "run",
    "-d",
    "--network",
    "host",
    "--restart",
    "unless-stopped",
    "--name",
    "base",
    "busybox",
    "sleep",
    "1000",
  ]);
  await ok(["stop", "-t", "0", "base"]);
  const odd = join(scratch, "odd.tar");
  // One layer with both, as an import makes it.
  writeFileSync(odd, Buffer.concat([readFileSync(join(scratch, "busybox.tar")).subarray(0, -1024)]));
  await succeed("tar", ["-A", "-f", odd, await written(join(scratch, "more.tar"), await oddTar())]);
  await ok(["import", odd, "odd:1"]);
  await ok(["build", "-q", "--network", "host", "-t", "app:1", "-t", "app:2", "-t", "localhost:5000/team/app:x", "-"], {
    input: dockerfile,
  });
  await ok(["volume", "create", "--label", "purpose=test", "--label", "empty=", "named"]);
  await ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=5", "mounted"]);
  // More than one page of metadata.db holds.
  for (let index = 0; index < 14; index++)
    await ok(["volume", "create", "--label", `long=${"x".repeat(300)}`, `many-${index}`]);
  const run = ["run", "--network", "host", "-v", "named:/vol", "--tmpfs", "/scratch:size=1m", "-v", "/etc:/host:ro"];
  const asked = ["--label", "mine=yes", "-e", "A=b", "--memory", "64m", "-h", "changed", "--name", "changed"];
  const { code, stderr } = await docker([...run, ...asked, "app:1", "sh", "-c", changes]);
  if (code !== 3) throw new Error(`the container that changes things ended with ${code}: ${stderr}`);
  await ok(["build", "-q", "--network", "host", "-t", "lone", "-"], { input: "FROM busybox\nRUN echo lone >/only" });
  await ok(["create", "--network", "host", "--name", "orphan", "lone", "cat", "/only"]);
  await ok(["rmi", "-f", "lone"]);
  await ok(["create", "--name", "ports", "-p", "8080:80", "busybox", "true"]);
  await ok(["create", "--restart", "always", "--network", "none", "-it", "--name", "fresh", "app:2"]);
}

async function written(path: string, bytes: Uint8Array): Promise<string> {
  writeFileSync(path, bytes);
  return path;
}

/** What an engine says of everything in it, without what names the engine itself. */
export async function testimony(daemon: Daemon, scratch: string): Promise<Readonly<Record<string, unknown>>> {
  const { ok } = daemon;
  const lines = async (args: readonly string[]): Promise<string[]> => (await ok(args)).split("\n").sort();
  const said: Record<string, unknown> = {};
  said.images = await lines(["images", "-a", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"]);
  said.containers = await lines(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}"]);
  for (const name of ["busybox:latest", "odd:1", "app:1"]) {
    said[`layers of ${name}`] = await savedLayers(daemon, scratch, name);
    said[`image ${name}`] = pick(await inspect(daemon, "image", name), [
      "Id",
      "RepoTags",
      "Config",
      "RootFS",
      "Created",
    ]);
  }
  for (const name of ["base", "changed", "fresh", "orphan"])
    Object.assign(said, await ofContainer(daemon, scratch, name));
  for (const name of await lines(["volume", "ls", "-q"]))
    said[`volume ${name}`] = pick(await inspect(daemon, "volume", name), ["Driver", "Labels", "Options"]);
  return said;
}

type Document = Readonly<Record<string, unknown>>;

async function inspect({ ok }: Daemon, kind: string, name: string): Promise<Document> {
  const [document] = JSON.parse(await ok(["inspect", "--type", kind, name])) as Document[];
  return document ?? {};
}

const pick = (document: Document, keys: readonly string[]): Document =>
  Object.fromEntries(keys.map((key) => [key, told(document[key])]));

/** Nothing, said in many ways. */
function told(value: unknown): unknown {
  if (value === null || value === undefined || value === "" || value === false || value === 0) return null;
  if (Array.isArray(value)) return value.length === 0 ? null : value.map(told);
  if (typeof value !== "object") return value;
  const members = Object.entries(value).flatMap(([key, member]) =>
    told(member) === null ? [] : [[key, told(member)]],
  );
  return members.length === 0 ? null : Object.fromEntries(members);
}

const fixed = ["Id", "Created", "Path", "Args", "Image", "Name", "RestartCount", "Config"];
const host = [
  "Binds",
  "Tmpfs",
  "NetworkMode",
  "RestartPolicy",
  "Memory",
  "LogConfig",
  "IpcMode",
  "MaskedPaths",
  "ShmSize",
];
const state = ["Status", "ExitCode", "Error", "StartedAt", "FinishedAt"];

async function ofContainer(daemon: Daemon, scratch: string, name: string): Promise<Document> {
  const document = await inspect(daemon, "container", name);
  const mounts = (document.Mounts as readonly Document[]).filter(({ Type }) => Type !== "tmpfs");
  const where = ["Type", "Name", "Destination", "Driver", "Mode", "RW", "Propagation"];
  const settings = document.NetworkSettings as { readonly Networks: Document };
  const { ok, docker } = daemon;
  return {
    [`container ${name}`]: pick(document, fixed),
    [`host config of ${name}`]: pick(document.HostConfig as Document, host),
    [`state of ${name}`]: pick(document.State as Document, state),
    [`mounts of ${name}`]: mounts
      .map((mount) => pick(mount, where))
      .sort((a, b) => (String(a.Destination) < String(b.Destination) ? -1 : 1)),
    [`networks of ${name}`]: Object.keys(settings.Networks),
    [`changes of ${name}`]: (await ok(["diff", name])).split("\n").sort(),
    [`log of ${name}`]: await docker(["logs", "-t", name]),
    [`tree of ${name}`]: await exportedTree(daemon, scratch, name),
  };
}

/** What the engine itself puts into every container. */
const engines = /^\/(dev|proc|sys|\.dockerenv|etc\/(hosts|hostname|resolv\.conf|mtab))(\/|$)/;

/** The tree of `docker export`, with the attributes that dockerd exports too unless others are asked for. */
export async function exportedTree(
  { ok }: Daemon,
  scratch: string,
  ...[name, xattrs = "security.capability"]: [name: string, xattrs?: string]
): Promise<Readonly<Record<string, string>>> {
  const [tar, folder] = [join(scratch, "export.tar"), join(scratch, "export")];
  await ok(["export", "-o", tar, name]);
  mkdirSync(folder);
  await succeed("tar", [
    "-x",
    "--numeric-owner",
    "--xattrs",
    `--xattrs-include=${xattrs}`,
    "-p",
    "-C",
    folder,
    "-f",
    tar,
  ]);
  const tree = Object.entries(describeTree(folder, { seconds: true, directoryTimes: false }));
  await succeed("rm", ["-r", folder, tar]);
  return Object.fromEntries(tree.filter(([path]) => path !== "" && !engines.test(path)));
}

/** Digests of the layers in a `docker save`, lowest first. */
async function savedLayers({ ok }: Daemon, scratch: string, image: string): Promise<readonly string[]> {
  const [tar, folder] = [join(scratch, "save.tar"), join(scratch, "save")];
  await ok(["save", "-o", tar, image]);
  mkdirSync(folder);
  await succeed("tar", ["-x", "-C", folder, "-f", tar]);
  const [manifest] = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { readonly Layers: string[] }[];
  const digests = (manifest?.Layers ?? []).map((path) =>
    createHash("sha256")
      .update(readFileSync(join(folder, path)))
      .digest("hex"),
  );
  await succeed("rm", ["-r", folder, tar]);
  return digests;
}

/** Everything that a write below `root` would change: names, modes, owners, sizes, times of content and of inodes, attributes, content. */
export async function picture(root: string): Promise<string> {
  const script = `cd "$1" && find . -printf '%p %y %m %U %G %s %T@ %C@ %n %l\\n' | sort
find . -type f -print0 | sort -z | xargs -0 sha256sum; getfattr -R -P -h -d -m - -e hex . | sed '/^$/d'`;
  return succeed("bash", ["-c", script, "picture", root]);
}
