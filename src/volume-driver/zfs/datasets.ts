/**
 * Datasets of volumes and their snapshots, by zfs's command line, in words that OpenZFS and zfs-fuse both have. People's
 * snapshots have the names that they gave; one that only keeps what a clone shares is *hidden*, its name has a colon, and
 * it is told to go with the last clone.
 */
import { randomBytes } from "node:crypto";
import { isError } from "../../base/errors.ts";
import { destroyWhenFree, run } from "../../host/zfs-command.ts";

const idProperty = "strata:volume";
/** Milliseconds for a mount that was taken away to end. */
const patience = 20_000;

export type NewDataset = {
  readonly name: string;
  readonly id: string;
  readonly size: number | undefined;
  /** The snapshot that it is a clone of. */
  readonly origin?: string | undefined;
};

/** Nobody mounts it but the driver. */
export async function makeDataset({ name, id, size, origin }: NewDataset, served: boolean): Promise<void> {
  const properties = [`${idProperty}=${id}`, "canmount=noauto", `mountpoint=${served ? "none" : "legacy"}`];
  if (size !== undefined) properties.push(`refquota=${size}`);
  const options = properties.flatMap((property) => ["-o", property]);
  if (origin === undefined) await run("zfs", "create", ...options, name);
  else await run("zfs", "clone", ...options, origin, name);
}

export const hidden = (why: string): string => `${why}:${randomBytes(6).toString("hex")}`;

export type Snapshot = { readonly name: string; readonly seconds: number };

/** A dataset's snapshots, oldest first; none where it is gone. */
export async function snapshotsIn(dataset: string): Promise<readonly Snapshot[]> {
  const lines = await orGone(run("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-s", "creation", "-r", dataset));
  const names = lines.split("\n").filter((line) => line.startsWith(`${dataset}@`));
  if (names.length === 0) return [];
  const times = await run("zfs", "get", "-Hp", "-o", "name,value", "creation", ...names);
  const seconds = new Map(times.split("\n").map((line) => line.split("\t") as [string, string]));
  return names.map((name) => ({ name: name.slice(dataset.length + 1), seconds: Number(seconds.get(name)) }));
}

export const isHidden = ({ name }: Snapshot): boolean => name.includes(":");

/** Removes a snapshot; one that clones share becomes hidden, and goes with the last of them. */
export async function dropSnapshot(dataset: string, name: string): Promise<void> {
  try {
    await run("zfs", "destroy", `${dataset}@${name}`);
    return;
  } catch (error) {
    if (!isError(error, "conflict")) throw error;
  }
  const kept = hidden("shared");
  await run("zfs", "rename", `${dataset}@${name}`, `${dataset}@${kept}`);
  await run("zfs", "destroy", "-d", `${dataset}@${kept}`);
}

/**
 * Destroys a dataset that has the id, and its snapshots. Clones of them live on: each is promoted, which makes it the
 * owner of what it shares. Not there, or somebody else's: nothing.
 */
export async function destroyDataset(name: string, id: string): Promise<void> {
  if ((await orGone(run("zfs", "get", "-H", "-o", "value", idProperty, name))).trim() !== id) return;
  for (const snapshot of await snapshotsIn(name)) if (!isHidden(snapshot)) await dropSnapshot(name, snapshot.name);
  for (let [clone] = await clonesOf(name); clone !== undefined; [clone] = await clonesOf(name))
    await run("zfs", "promote", clone);
  await orGone(destroyWhenFree(name, patience).then(() => ""));
}

/** Datasets of the pool that are clones of the dataset's snapshots. */
async function clonesOf(name: string): Promise<readonly string[]> {
  const [pool = ""] = name.split("/");
  const lines = await run("zfs", "list", "-H", "-t", "filesystem", "-o", "origin,name", "-r", pool);
  return lines.split("\n").flatMap((line) => {
    const [origin = "", clone = ""] = line.split("\t");
    return origin.startsWith(`${name}@`) ? [clone] : [];
  });
}

/** Bytes that a dataset refers to, as of now: setting a property waits for what was written before. */
export async function referenced(name: string): Promise<number> {
  await run("zfs", "set", `strata:measured=${Date.now()}`, name);
  return Number((await run("zfs", "get", "-Hp", "-o", "value", "referenced", name)).trim());
}

async function orGone(words: Promise<string>): Promise<string> {
  try {
    return await words;
  } catch (error) {
    if (isError(error, "not_found")) return "";
    throw error;
  }
}
