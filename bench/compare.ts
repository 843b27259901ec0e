/** Timing one step on both engines, turn by turn, so that noise of the machine falls on both. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { syncFilesystem } from "../src/host/durable.ts";
import type { Daemon } from "../test/support/engine.ts";

export type Peer = {
  readonly strata: Daemon;
  readonly dockerd: Daemon;
  /** A podman with its data on the same disk; its end is the caller's. */
  readonly startPodman: () => Promise<Daemon>;
  readonly scratch: string;
  readonly log: (text: string) => void;
};

export type Row = {
  readonly name: string;
  readonly strata: number;
  readonly dockerd: number | undefined;
  readonly unit: string;
  /** Upper bound of the ratio, or of Strata's own figure where there is no peer. */
  readonly goal: number | undefined;
};

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

export type Step = (daemon: Daemon, round: number) => Promise<unknown>;
export type Timed = {
  readonly name: string;
  readonly rounds: number;
  readonly goal?: number;
  readonly before?: Step;
  readonly step: Step;
  readonly after?: Step;
};

async function once(daemon: Daemon, { before, step, after }: Timed, round: number): Promise<number> {
  await before?.(daemon, round);
  await rest(daemon);
  const start = performance.now();
  await step(daemon, round);
  const taken = performance.now() - start;
  await after?.(daemon, round);
  return taken;
}

/**
 * A step pays for what it does itself: not for what the other engine has written and not synced, nor for what a removal
 * before it left to be deleted behind it.
 */
async function rest({ dataRoot }: Daemon): Promise<void> {
  const trash = join(dataRoot, "overlay2/trash");
  while (existsSync(trash) && readdirSync(trash).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  await syncFilesystem(dataRoot);
}

/** Alternates between the engines; medians of milliseconds. */
export async function compare(peer: Peer, timed: Timed): Promise<Row> {
  const strata: number[] = [];
  const dockerd: number[] = [];
  for (let round = 0; round < timed.rounds; round++) {
    const first = round % 2 === 0;
    if (first) strata.push(await once(peer.strata, timed, round));
    dockerd.push(await once(peer.dockerd, timed, round));
    if (!first) strata.push(await once(peer.strata, timed, round));
  }
  const [ours, theirs] = [median(strata), median(dockerd)];
  peer.log(`measured: ${timed.name}: ${ours.toFixed(1)} and ${theirs.toFixed(1)} ms`);
  return { name: timed.name, strata: ours, dockerd: theirs, unit: "ms", goal: timed.goal };
}
