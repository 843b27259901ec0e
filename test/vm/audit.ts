/**
 * After a power cut: the disk is mounted (the filesystem replays its journal), the engine starts, and what it lists is
 * compared with what it had acknowledged; then `strata check` must find nothing, every layer by its digest.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Order } from "./guest/orders.ts";
import { kinds, type Listing } from "./history.ts";
import type { Orders, World } from "./load.ts";
import { missingFrom } from "./volume-content.ts";

export type Filesystem = "ext4" | "xfs" | "btrfs";

export type Setup = {
  readonly filesystem: Filesystem;
  readonly driver: string;
  /** A block device, or a file that holds a disk. */
  readonly device: string;
  /** Where the data disk is mounted. */
  readonly target: string;
};

async function must(guest: Orders, order: Order): Promise<string> {
  const { status, text } = await guest.order(order);
  const failed = order.do === "ask" ? status < 200 || status >= 300 : status !== 0;
  if (failed) throw new Error(`${JSON.stringify(order).slice(0, 200)}: ${status} ${text.slice(-3000)}`);
  return text;
}

const run = (guest: Orders, ...command: readonly string[]): Promise<string> =>
  must(guest, { do: "run", command, deadline: 900_000 });

const mkfs: Readonly<Record<Filesystem, readonly string[]>> = {
  ext4: ["mkfs.ext4", "-q", "-F", "-N", "65536", "-J", "size=16", "-E", "nodiscard"],
  xfs: ["mkfs.xfs", "-q", "-f", "-K"],
  btrfs: ["mkfs.btrfs", "-q", "-f", "-K"],
};

export async function format(guest: Orders, { filesystem, device }: Setup): Promise<void> {
  await run(guest, ...mkfs[filesystem], device);
}

/** Loop devices are few, and other tests use them too: a replay waits its turn. */
export async function mount(guest: Orders, { filesystem, device, target }: Setup): Promise<void> {
  const order: Order = { do: "run", command: ["mount", "-t", filesystem, device, target], deadline: 900_000 };
  for (let tries = 1; ; tries++) {
    const { status, text } = await guest.order(order);
    if (status === 0) return;
    if (tries === 300 || !text.includes("loop device")) throw new Error(`the disk does not mount: ${text}`);
    await sleep(2000);
  }
}

export async function unmount(guest: Orders, { target }: Setup): Promise<void> {
  await run(guest, "umount", target);
}

/** Opens the engine. */
export async function open(guest: Orders, { driver }: Setup): Promise<void> {
  await must(guest, { do: "open", driver });
}

async function json(guest: Orders, path: string): Promise<unknown> {
  return JSON.parse(await must(guest, { do: "ask", method: "GET", path }));
}

type Names = {
  readonly RepoTags?: readonly string[] | null;
  readonly Names?: readonly string[];
  readonly Name?: string;
};

/** What the engine lists, by its own names. */
export async function listing(guest: Orders): Promise<Listing> {
  const images = (await json(guest, "/images/json")) as readonly Names[];
  const containers = (await json(guest, "/containers/json?all=1")) as readonly Names[];
  const { Volumes } = (await json(guest, "/volumes")) as { readonly Volumes: readonly Names[] };
  return {
    image: new Set(images.flatMap(({ RepoTags }) => RepoTags ?? []).filter((tag) => !tag.startsWith("<none>"))),
    container: new Set(containers.flatMap(({ Names }) => Names ?? []).map((name) => name.replace(/^\//, ""))),
    volume: new Set(Volumes.flatMap(({ Name }) => Name ?? [])),
  };
}

export type Finding = { readonly complaints: readonly string[]; readonly listed: Listing };

/** Mounts, opens, asks, closes, checks. The disk stays mounted, the engine closed. */
export async function audit(world: World, moment: number, setup: Setup): Promise<Finding> {
  const { guest, history, copied } = world;
  await mount(guest, setup);
  await open(guest, setup);
  const listed = await listing(guest);
  const complaints = history.complaints(moment, listed);
  for (const kind of kinds) for (const name of listed[kind]) complaints.push(...(await inspect(guest, kind, name)));
  for (const name of history.present("volume", moment).filter((one) => listed.volume.has(one)))
    complaints.push(...(await volumeComplaints(guest, name, copied.get(name))));
  const reported = await must(guest, { do: "close" });
  if (reported !== "") complaints.push(`the engine reported: ${reported}`);
  complaints.push(...(await checkComplaints(guest, setup)));
  return { complaints, listed };
}

/** A close does not wait for what is in the trash to be deleted: an engine that is left alone for a while gets it done. */
async function checkComplaints(guest: Orders, setup: Setup): Promise<string[]> {
  for (let tries = 1; ; tries++) {
    const { status, text } = await guest.order({ do: "check" });
    const lines = status === 0 ? [] : text.split("\n");
    const onlyTrash = lines.every((line) => line.startsWith("awaiting removal:"));
    if (lines.length === 0 || tries === 5 || !onlyTrash) return lines.map((line) => `check: ${line}`);
    await open(guest, setup);
    await sleep(1000 * tries);
    await must(guest, { do: "close" });
  }
}

async function inspect(guest: Orders, kind: string, name: string): Promise<string[]> {
  const path = kind === "volume" ? `/volumes/${name}` : `/${kind}s/${name}/json`;
  const { status, text } = await guest.order({ do: "ask", method: "GET", path });
  return status === 200 ? [] : [`inspect of ${kind} ${name}: ${status} ${text}`];
}

async function volumeComplaints(
  guest: Orders,
  name: string,
  expected: ReadonlyMap<string, string> | undefined,
): Promise<string[]> {
  if (expected === undefined) return [];
  const text = await must(guest, { do: "digest", folder: `volumes/${name}/_data` });
  return missingFrom(text, expected).map((complaint) => `volume ${name}: ${complaint}`);
}
