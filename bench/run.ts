/**
 * `npm run bench`: the same docker CLI on Strata and on a stock dockerd, side by side, in one run, both data roots on one
 * fresh loop-mounted xfs. Prints medians and ratios; a ratio above its goal is marked, and never decides a test.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  busyboxTar,
  type Daemon,
  scratchFolder,
  startDockerd,
  startStrata,
  unmountBelow,
} from "../test/support/engine.ts";
import { startPodman } from "../test/support/podman.ts";
import type { Peer, Row } from "./compare.ts";
import { runScenarios } from "./scenarios.ts";

if (process.getuid?.() !== 0) {
  process.stderr.write("strata: the benchmark mounts filesystems and runs containers: run it as root.\n");
  process.exit(1);
}
if (process.env.STRATA_BENCH_INSIDE === undefined) {
  const inside = ["--mount", "--propagation", "private", process.execPath, ...process.argv.slice(1)];
  const { status } = spawnSync("unshare", inside, {
    stdio: "inherit",
    env: { ...process.env, STRATA_BENCH_INSIDE: "1" },
  });
  process.exit(status ?? 1);
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

function table(rows: readonly Row[]): void {
  print("");
  print(
    `${"what".padEnd(58)} ${"strata".padStart(10)} ${"dockerd".padStart(10)} ${"ratio".padStart(7)} ${"goal".padStart(7)}`,
  );
  for (const { name, strata, dockerd, unit, goal } of rows) {
    const ratio = dockerd === undefined ? undefined : strata / dockerd;
    const over = goal !== undefined && (ratio ?? strata) > goal ? "  over" : "";
    const cells = [
      `${strata.toFixed(1)} ${unit}`.padStart(10),
      (dockerd === undefined ? "-" : `${dockerd.toFixed(1)} ${unit}`).padStart(10),
      (ratio === undefined ? "-" : ratio.toFixed(2)).padStart(7),
      (goal === undefined ? "-" : `<= ${goal}`).padStart(7),
    ];
    print(`${name.padEnd(58)} ${cells.join(" ")}${over}`);
  }
}

const scratch = scratchFolder();
const disk = join(scratch.path, "disk");
mkdirSync(disk);
execFileSync("truncate", ["-s", "12G", join(scratch.path, "disk.img")]);
execFileSync("mkfs.xfs", ["-q", join(scratch.path, "disk.img")]);
execFileSync("mount", ["-o", "loop", join(scratch.path, "disk.img"), disk]);
const peers: Daemon[] = [];
try {
  const strata = await startStrata({ root: join(scratch.path, "strata"), dataRoot: join(disk, "strata") });
  peers.push(strata);
  const dockerd = await startDockerd(join(scratch.path, "dockerd"), join(disk, "dockerd"));
  peers.push(dockerd);
  const base = await busyboxTar(join(scratch.path, "busybox.tar"));
  for (const daemon of peers) await daemon.ok(["import", base, "busybox:latest"]);
  const podmanFolders = { dataRoot: join(disk, "podman"), storageDriver: "overlay" };
  const pair: Peer = {
    strata,
    dockerd,
    startPodman: () => startPodman(join(scratch.path, "podman"), podmanFolders),
    scratch: scratch.path,
    log: print,
  };
  table(await runScenarios(pair, process.argv.slice(2)));
} finally {
  for (const daemon of peers) await daemon.stop();
  await unmountBelow(scratch.path);
  scratch[Symbol.dispose]();
}
