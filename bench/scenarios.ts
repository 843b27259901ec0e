/**
 * What the benchmark measures. Each scenario alternates between the two engines, so that noise of the machine falls on
 * both, and gives the medians of wall-clock milliseconds of the docker CLI.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { command } from "../test/support/engine.ts";
import { compare, median, type Peer, type Row, type Timed } from "./compare.ts";
import { instantServer } from "./instant-server.ts";
import { smallFilesTar, storageScenarios } from "./storage-scenarios.ts";

/** Resident memory of a process, MB. */
function rss(pid: number, field: "VmRSS" | "VmHWM"): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? Number.NaN) / 1000;
}

const runs: Timed = {
  name: "docker run --rm --network host busybox true",
  rounds: 21,
  goal: 0.6,
  step: (daemon) => daemon.ok(["run", "--rm", "--network", "host", "busybox", "true"]),
};
const creates: Timed = {
  name: "docker create busybox true",
  rounds: 31,
  goal: 0.8,
  step: (daemon, round) => daemon.ok(["create", "--name", `bench-${round}`, "busybox", "true"]),
};
/** The CLI's own time, as a bound for what an engine can reach: `create` against a server that does nothing. */
async function cliAlone(peer: Peer): Promise<Row> {
  const socket = join(peer.scratch, "instant.sock");
  const server = await instantServer(socket);
  const times: number[] = [];
  for (let round = 0; round < 21; round++) {
    const start = performance.now();
    await command("docker", ["create", "busybox", "true"], { env: { DOCKER_HOST: `unix://${socket}` } });
    times.push(performance.now() - start);
  }
  server.close();
  return {
    name: "(docker create against a server that answers at once)",
    strata: median(times),
    dockerd: undefined,
    unit: "ms",
    goal: undefined,
  };
}

async function importSmall(peer: Peer): Promise<Row> {
  const tar = smallFilesTar(join(peer.scratch, "small.tar"));
  return compare(peer, {
    name: "import of a tar of 13,100 small files",
    rounds: 5,
    goal: 1,
    step: (daemon, round) => daemon.ok(["import", tar, `small:${round}`]),
    after: (daemon, round) => (round === 0 ? Promise.resolve() : daemon.ok(["rmi", `small:${round}`])),
  });
}

async function sizes(peer: Peer): Promise<Row> {
  const fill = "i=0; while [ $i -lt 2000 ]; do echo x > /tmp/f$i; i=$((i+1)); done";
  for (const daemon of [peer.strata, peer.dockerd]) {
    for (let i = 0; i < 20; i++)
      await daemon.ok(["run", "--network", "host", "--name", `size-${i}`, "busybox", "sh", "-c", fill]);
  }
  return compare(peer, {
    name: "ps -a -s over 20 containers of 2,000 files each",
    rounds: 11,
    goal: 0.4,
    step: (daemon) => daemon.ok(["ps", "-a", "-s", "--filter", "name=size-"]),
  });
}

async function bigLayer(peer: Peer): Promise<Row> {
  const script = 'd=$(mktemp -d); head -c 2000000000 /dev/urandom > $d/big; tar -C $d -c -f "$1" big; rm -rf $d';
  const bytes = join(peer.scratch, "big.tar");
  execFileSync("bash", ["-c", script, "big", bytes]);
  await peer.strata.ok(["import", bytes, "big:1"]);
  const peak = rss(peer.strata.pid, "VmHWM");
  await peer.strata.ok(["rmi", "big:1"]);
  execFileSync("rm", ["-f", bytes]);
  return {
    name: "peak RSS of the daemon after importing a 2 GB layer",
    strata: peak,
    dockerd: undefined,
    unit: "MB",
    goal: 200,
  };
}

/** Runs every scenario whose name contains one of `wanted` (all when empty). */
export async function runScenarios(peer: Peer, wanted: readonly string[]): Promise<readonly Row[]> {
  const all: readonly (readonly [string, (peer: Peer) => Promise<Row | readonly Row[]>])[] = [
    [
      "idle",
      async () => {
        await sleep(8000);
        return {
          name: "RSS of the idle daemon",
          strata: rss(peer.strata.pid, "VmRSS"),
          dockerd: undefined,
          unit: "MB",
          goal: 120,
        };
      },
    ],
    ["floor", () => cliAlone(peer)],
    ["run", () => compare(peer, runs)],
    ["create", () => compare(peer, creates)],
    ["sizes", () => sizes(peer)],
    ["import", () => importSmall(peer)],
    ["big", () => bigLayer(peer)],
    ...storageScenarios(peer),
  ];
  const rows: Row[] = [];
  for (const [key, scenario] of all)
    if (wanted.length === 0 || wanted.includes(key)) {
      const measured = await scenario(peer);
      rows.push(...(Array.isArray(measured) ? measured : [measured]));
    }
  return rows;
}
