/** All that a daemon holds on the machine, as lines that can be compared: files below its roots, mounts, objects. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { call } from "./api.ts";
import type { Daemon } from "./engine.ts";

const lists = ["/containers/json?all=1", "/volumes", "/networks", "/images/json?all=1"] as const;

async function below(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.map(({ parentPath, name }) => `${parentPath}/${name}`);
}

/** Resident kilobytes of a process. */
export function residentOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
}

export async function footprintOf(daemon: Daemon): Promise<readonly string[]> {
  const files = [...(await below(daemon.dataRoot)), ...(await below(daemon.execRoot))].filter(
    (path) => !/\/[^/]+\.db(-wal|-shm)?$/.test(path),
  );
  const table = readFileSync(`/proc/${daemon.pid}/mountinfo`, "utf8").split("\n");
  const root = dirname(daemon.execRoot);
  const mounts = table.map((line) => line.split(" ")[4] ?? "").filter((target) => target.startsWith(root));
  const objects: string[] = [];
  for (const path of lists) {
    const { text } = await call(daemon, { method: "GET", path });
    // how long ago something was made goes on
    objects.push(`${path} ${text.replace(/"Status":"[^"]*"/g, "").trim()}`);
  }
  return [...files.sort(), ...mounts.map((target) => `mount ${target}`).sort(), ...objects];
}

/** Waits until the daemon holds what it held before; what is cleared away later may take a few seconds. */
export async function assertFootprint(daemon: Daemon, before: readonly string[]): Promise<void> {
  const give = performance.now() + 10_000;
  for (;;) {
    const now = await footprintOf(daemon).catch((): readonly string[] => []);
    const more = now.filter((line) => !before.includes(line));
    const gone = before.filter((line) => !now.includes(line));
    if (more.length + gone.length === 0) return;
    if (performance.now() > give) assert.deepEqual({ more, gone }, { more: [], gone: [] });
    await sleep(100);
  }
}
