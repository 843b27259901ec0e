/**
 * What grows with files and layers: `load`, `commit`, `diff`, `rmi`, and the figures of `ps -s` and `system df`, which must not
 * grow at all. Asked over the API, without the CLI's own time, except where a row names the CLI.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type Answer, type Call, call } from "../test/support/api.ts";
import { busyboxTar, type Daemon } from "../test/support/engine.ts";
import { compare, median, type Peer, type Row, type Timed } from "./compare.ts";

/** A tar of 13,100 small files. */
export function smallFilesTar(path: string): string {
  const script = `d=$(mktemp -d); cd $d; for i in $(seq 0 130); do mkdir -p a/$i; for j in $(seq 0 99); do head -c $((RANDOM % 6000 + 300)) /dev/urandom > a/$i/$j; done; done; tar -c -f "$1" .; rm -rf $d`;
  execFileSync("bash", ["-c", script, "small-files", path]);
  return path;
}

type Scenario = readonly [string, () => Promise<Row | readonly Row[]>];

/** Scenarios by key. */
export const storageScenarios = (peer: Peer): readonly Scenario[] => [
  ["api", () => apiCreate(peer)],
  ["load", () => loadLayers(peer)],
  ["commit", () => commits(peer)],
  ["podman", () => commitsOfPodman(peer)],
  ["diff", () => diffs(peer)],
  ["rmi", () => removals(peer)],
  ["flat", () => flat(peer)],
];

async function ask(daemon: Daemon, request: Call): Promise<Answer> {
  const answer = await call(daemon, request);
  if (answer.status >= 400) throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.text}`);
  return answer;
}

const createOne = (daemon: Daemon, name: string): Promise<Answer> =>
  ask(daemon, {
    method: "POST",
    path: `/v1.41/containers/create?name=${name}`,
    json: { Image: "busybox", Cmd: ["true"] },
  });

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Spaced, as people create: each one pays for whatever an idle engine has to wake. */
const apiCreate = (peer: Peer): Promise<Row> =>
  compare(peer, {
    name: "POST /containers/create, one each 100 ms",
    rounds: 31,
    goal: 1,
    before: () => pause(100),
    step: (daemon, round) => createOne(daemon, `api-${round}`),
  });

function layersArchive(peer: Peer, path: string): void {
  const script = `set -e; d=$(mktemp -d); cd $d; mkdir out; layers=; ids=
for l in 1 2 3 4 5 6; do
  mkdir -p t/dir$l; for i in $(seq 3000); do echo "$l $i" > t/dir$l/$i; done
  tar -C t -cf out/$l.tar .; id=$(sha256sum out/$l.tar | cut -d" " -f1); rm -rf t
  layers="$layers,\\"$l.tar\\""; ids="$ids,\\"sha256:$id\\""
done
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' "\${ids#,}" > out/config.json
printf '[{"Config":"config.json","RepoTags":["six:1"],"Layers":[%s]}]' "\${layers#,}" > out/manifest.json
tar -C out -cf "$1" manifest.json config.json 1.tar 2.tar 3.tar 4.tar 5.tar 6.tar; rm -rf $d`;
  execFileSync("bash", ["-c", script, "layers", path], { env: { ...process.env, TMPDIR: peer.scratch } });
}

async function loadLayers(peer: Peer): Promise<Row> {
  const archive = join(peer.scratch, "six.tar");
  layersArchive(peer, archive);
  return compare(peer, {
    name: "docker load of 6 layers of 3,000 files each",
    rounds: 5,
    goal: 1,
    step: (daemon) => daemon.ok(["load", "-q", "-i", archive]),
    after: (daemon) => daemon.ok(["rmi", "six:1"]),
  });
}

/** A container with 5,000 new files. */
async function fillContainer(daemon: Daemon, name: string): Promise<void> {
  const fill = "mkdir /new; i=0; while [ $i -lt 5000 ]; do echo $i > /new/f$i; i=$((i+1)); done";
  await daemon.ok(["run", "--network", "host", "--name", name, "busybox", "sh", "-c", fill]);
}

const committing = (name: string): Timed => ({
  name: "commit of 5,000 new files",
  rounds: 15,
  goal: 0.5,
  step: (daemon, round) =>
    ask(daemon, { method: "POST", path: `/v1.41/commit?container=${name}&repo=${name}&tag=${round}`, json: {} }),
  after: (daemon, round) => daemon.ok(["rmi", `${name}:${round}`]),
});

async function commits(peer: Peer): Promise<Row> {
  for (const daemon of [peer.strata, peer.dockerd]) await fillContainer(daemon, "filled");
  return compare(peer, committing("filled"));
}

/** The same beside podman, which stands in dockerd's column. */
async function commitsOfPodman(peer: Peer): Promise<Row> {
  await using podman = await peer.startPodman();
  await podman.ok(["import", await busyboxTar(join(peer.scratch, "podman.tar")), "busybox:latest"]);
  for (const daemon of [peer.strata, podman]) await fillContainer(daemon, "beside-podman");
  const row = await compare({ ...peer, dockerd: podman }, committing("beside-podman"));
  await podman.ok(["rm", "beside-podman"]);
  return { ...row, name: "commit of 5,000 new files (second column: podman)" };
}

/** An image of 13,100 files in both engines. */
async function importSmall(peer: Peer, name: string): Promise<string> {
  const tar = smallFilesTar(join(peer.scratch, `${name}.tar`));
  for (const daemon of [peer.strata, peer.dockerd]) await daemon.ok(["import", tar, `${name}:1`]);
  return tar;
}

async function diffs(peer: Peer): Promise<Row> {
  const tar = await importSmall(peer, "differ");
  for (const daemon of [peer.strata, peer.dockerd]) {
    await daemon.ok(["create", "--name", "differ", "differ:1", "true"]);
    await daemon.ok(["cp", tar, "differ:/a/1/new"]);
  }
  return compare(peer, {
    name: "diff of a small change over 13,100 files",
    rounds: 11,
    goal: 0.15,
    step: (daemon) => ask(daemon, { method: "GET", path: "/v1.41/containers/differ/changes" }),
  });
}

async function removals(peer: Peer): Promise<Row> {
  const tar = smallFilesTar(join(peer.scratch, "gone.tar"));
  return compare(peer, {
    name: "rmi of an image of 13,100 files",
    rounds: 5,
    goal: 0.15,
    before: (daemon) => daemon.ok(["import", tar, "gone:1"]),
    step: (daemon) => ask(daemon, { method: "DELETE", path: "/v1.41/images/gone:1" }),
  });
}

const figures: readonly (readonly [string, string])[] = [
  ["ps -a -s", "/v1.41/containers/json?all=1&size=1"],
  ["system df", "/v1.41/system/df"],
];

/** Medians of Strata's answers, by figure. */
async function figureTimes({ strata }: Peer): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number>();
  for (const [name, path] of figures) {
    const taken: number[] = [];
    for (let round = 0; round < 15; round++) {
      const start = performance.now();
      await ask(strata, { method: "GET", path });
      taken.push(performance.now() - start);
    }
    times.set(name, median(taken));
  }
  return times;
}

const stopped = 20;
const mostContainers = 5000;

/** Twenty stopped containers and an image, first of one file each, then of 5,000; then 5,000 containers. */
async function flat(peer: Peer): Promise<readonly Row[]> {
  const { strata } = peer;
  const fill = (files: number): string =>
    `rm -rf /tmp/x; mkdir -p /tmp/x; i=0; while [ $i -lt ${files} ]; do echo x > /tmp/x/f$i; i=$((i+1)); done`;
  const few: ReadonlyMap<string, number>[] = [];
  for (const files of [1, 5000]) {
    for (let i = 0; i < stopped; i++)
      await strata.ok(["run", "--network", "host", "--name", `flat-${files}-${i}`, "busybox", "sh", "-c", fill(files)]);
    await ask(strata, {
      method: "POST",
      path: `/v1.41/commit?container=flat-${files}-0&repo=flat&tag=${files}`,
      json: {},
    });
    // Sizes of containers that stopped are taken shortly after.
    await pause(3000);
    await ask(strata, { method: "GET", path: "/v1.41/containers/json?all=1&size=1" });
    few.push(await figureTimes(peer));
    if (files === 1) for (let i = 0; i < stopped; i++) await strata.ok(["rm", `flat-${files}-${i}`]);
  }
  const [small, large] = few;
  const growth = figures.map(([name]): Row => {
    const ratio = (large?.get(name) ?? Number.NaN) / (small?.get(name) ?? Number.NaN);
    return { name: `${name}: 100,000 files against 20`, strata: ratio, dockerd: undefined, unit: "x", goal: 1.5 };
  });
  return [...growth, await createGrowth(peer)];
}

async function createGrowth({ strata, log }: Peer): Promise<Row> {
  const sample = async (prefix: string): Promise<number> => {
    const taken: number[] = [];
    for (let round = 0; round < 31; round++) {
      const start = performance.now();
      await createOne(strata, `${prefix}-${round}`);
      taken.push(performance.now() - start);
    }
    return median(taken);
  };
  const first = await sample("first");
  for (let i = 0; i < mostContainers; i++) await createOne(strata, `many-${i}`);
  const last = await sample("last");
  log(`measured: create with no and with ${mostContainers} containers: ${first.toFixed(1)} and ${last.toFixed(1)} ms`);
  return {
    name: `create with ${mostContainers} containers against none`,
    strata: last / first,
    dockerd: undefined,
    unit: "x",
    goal: 1.5,
  };
}
