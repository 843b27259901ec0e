/**
 * The story of the seeds on the live engine: a Dockerfile becomes layers, containers weigh nothing until they write,
 * copy-on-write keeps the image as it was, a volume outlives its container. Every figure comes from an answer of the
 * API in this run.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import type { Api } from "./api.ts";
import { bytes, say, shell, table, title } from "./print.ts";

const label = "strata.story";
const image = "acme/my-final-image:1.0";
const filters = encodeURIComponent(JSON.stringify({ label: [label] }));

const historyRows = v.array(v.object({ CreatedBy: v.string(), Comment: v.string(), Size: v.number() }));
const containerRows = v.array(
  v.object({
    Id: v.string(),
    Names: v.array(v.string()),
    Image: v.string(),
    SizeRw: v.optional(v.number()),
    SizeRootFs: v.optional(v.number()),
    State: v.string(),
  }),
);
const changeRows = v.nullable(v.array(v.object({ Path: v.string(), Kind: v.number() })));

const dockerfile = `FROM busybox:latest
LABEL org.opencontainers.image.authors="org@example.com"
COPY . /app
RUN mkdir -p /cache && dd if=/dev/zero of=/cache/big bs=1k count=512 2>/dev/null && echo built > /app/built
RUN rm -r /cache
RUN echo 'nothing changed' > /etc/config.conf
CMD ["cat", "/app/app.py"]
`;

/** Containers and volumes of an earlier story go; what a user made is not touched. */
export async function removeStory(api: Api): Promise<readonly string[]> {
  const rows = v.parse(containerRows, await api.call(`/containers/json?all=1&filters=${filters}`));
  await Promise.all(rows.map(({ Id }) => api.call(`/containers/${Id}?force=1&v=1`, { method: "DELETE" })));
  return rows.map(({ Names }) => (Names[0] ?? "").slice(1));
}

async function build(api: Api): Promise<void> {
  title("1. A Dockerfile becomes layers");
  const folder = mkdtempSync(join(tmpdir(), "strata-story-"));
  try {
    writeFileSync(join(folder, "Dockerfile"), dockerfile);
    writeFileSync(join(folder, "app.py"), 'print("hi")\n');
    say(dockerfile.trimEnd().replace(/^/gm, "    "));
    shell(`docker build -t ${image} .`);
    const context = execFileSync("tar", ["-C", folder, "-c", "."]);
    await api.call(`/build?t=${encodeURIComponent(image)}&rm=1&q=1`, { method: "POST", body: context });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  shell(`docker history ${image}`);
  const rows = v.parse(historyRows, await api.call(`/images/${image}/history`));
  table(
    ["CREATED BY", "SIZE"],
    rows.map(({ CreatedBy, Comment, Size }) => [
      (CreatedBy || `(${Comment})`).replace(/\s+/g, " ").slice(0, 90),
      bytes(Size),
    ]),
  );
  say("  LABEL and CMD are metadata: no layer. The deleted cache still weighs in the layer that made it.");
}

async function run(api: Api, name: string, extra: object = {}): Promise<string> {
  const body = {
    Image: image,
    Cmd: ["sh"],
    Tty: true,
    OpenStdin: true,
    Labels: { [label]: "1" },
    HostConfig: { NetworkMode: "host" },
    ...extra,
  };
  const answer = await api.call(`/containers/create?name=${name}`, { method: "POST", body });
  const made = v.parse(v.object({ Id: v.string() }), answer);
  await api.call(`/containers/${made.Id}/start`, { method: "POST" });
  return made.Id;
}

async function sizes(api: Api): Promise<void> {
  shell("docker ps -s");
  const rows = v.parse(containerRows, await api.call(`/containers/json?size=1&filters=${filters}`));
  const cells = rows.map((row) => [
    row.Id.slice(0, 12),
    row.Image,
    (row.Names[0] ?? "").slice(1),
    `${bytes(row.SizeRw ?? -1)} (virtual ${bytes(row.SizeRootFs ?? -1)})`,
  ]);
  table(["CONTAINER ID", "IMAGE", "NAME", "SIZE"], cells.reverse());
}

async function containers(api: Api): Promise<void> {
  title("2. Five containers, one image: a thin writable layer each");
  for (const name of ["c1", "c2", "c3", "c4", "c5"]) {
    shell(`docker run -dit --name story-${name} ${image} sh`);
    await run(api, `story-${name}`);
  }
  await sizes(api);
  shell("docker exec story-c1 sh -c 'echo hello > /test.txt'");
  await api.exec("story-c1", ["sh", "-c", "echo hello > /test.txt"]);
  await sizes(api);
  say("  Only story-c1 has grown.");
}

async function copyOnWrite(api: Api): Promise<void> {
  title("3. Copy-on-write: the image stays as it was");
  shell("docker exec story-c2 sh -c 'echo changed >> /etc/config.conf; rm /app/built'");
  await api.exec("story-c2", ["sh", "-c", "echo changed >> /etc/config.conf; rm /app/built"]);
  const read = async (name: string): Promise<string> =>
    (await api.exec(name, ["tail", "-n", "1", "/etc/config.conf"])).trim();
  table(
    ["CONTAINER", "last line of /etc/config.conf"],
    [
      ["story-c2", await read("story-c2")],
      ["story-c3", await read("story-c3")],
    ],
  );
  shell("docker diff story-c2");
  const changes = v.parse(changeRows, await api.call("/containers/story-c2/changes")) ?? [];
  for (const { Path, Kind } of changes) say(`  ${"CAD"[Kind] ?? "?"} ${Path}`);
}

async function volume(api: Api): Promise<void> {
  title("4. A volume outlives its container");
  const mount = { HostConfig: { NetworkMode: "host", Binds: ["story-data:/data"] } };
  shell(`docker run --name story-writer -v story-data:/data ${image} sh -c 'echo kept > /data/file'`);
  const writer = await run(api, "story-writer", {
    ...mount,
    Tty: false,
    OpenStdin: false,
    Cmd: ["sh", "-c", "echo kept > /data/file"],
  });
  await api.call(`/containers/${writer}/wait`, { method: "POST" });
  shell("docker rm story-writer");
  await api.call(`/containers/${writer}`, { method: "DELETE" });
  shell(`docker run -dit --name story-reader -v story-data:/data ${image} sh`);
  await run(api, "story-reader", mount);
  shell("docker exec story-reader cat /data/file");
  say(`  ${(await api.exec("story-reader", ["cat", "/data/file"])).trim()}`);
  await sizes(api);
  say("  What is in a volume weighs in no container.");
}

async function engineItself(api: Api): Promise<void> {
  title("5. What the engine says of itself");
  const info = v.parse(
    v.object({
      Driver: v.string(),
      DockerRootDir: v.string(),
      DriverStatus: v.array(v.tuple([v.string(), v.string()])),
      Plugins: v.object({ Volume: v.array(v.string()) }),
    }),
    await api.call("/info"),
  );
  table(
    ["", ""],
    [
      ["Storage Driver", info.Driver],
      ...info.DriverStatus.map(([key, value]) => [`  ${key}`, value]),
      ["Volume Drivers", info.Plugins.Volume.join(", ")],
      ["Root Dir", info.DockerRootDir],
    ],
  );
}

/** Tells the whole story; containers stay until {@link removeStory}. */
export async function tell(api: Api): Promise<void> {
  await removeStory(api);
  await build(api);
  await containers(api);
  await copyOnWrite(api);
  await volume(api);
  await engineItself(api);
}
