/**
 * What three clients do until the daemon goes: images are loaded, imported, built, committed and removed, containers run,
 * created and removed, volumes made and removed. The ledger keeps what they were told.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { busyboxTar, type Daemon, startStrata, succeed } from "./engine.ts";
import { type Kind, Ledger } from "./ledger.ts";

/** Archives and contexts that the clients hand in. */
export type Goods = { readonly tar: string; readonly archive: string; readonly context: string };

export type World = {
  daemon: Daemon;
  readonly driver: string;
  readonly random: () => number;
  readonly ledger: Ledger;
  readonly goods: Goods;
  count: number;
};

/** The image that everything stands on; it stays. */
export const baseImage = "busybox:latest";
/** What is loaded again and again, beside removals of it. */
const loaded = "loaded:1";

/** Makes the goods in `folder`, with an engine of its own. */
export async function makeGoods(folder: string): Promise<Goods> {
  const context = join(folder, "context");
  mkdirSync(context);
  writeFileSync(
    join(context, "Dockerfile"),
    "FROM busybox\nARG N\nCOPY Dockerfile /d\nRUN echo $N >/n && mkdir /m && cp /bin/busybox /m/\nRUN rm -r /m\nCMD cat /n\n",
  );
  const tar = await busyboxTar(join(folder, "busybox.tar"));
  const archive = join(folder, "loaded.tar");
  const root = join(folder, "maker");
  {
    await using maker = await startStrata({ root, driver: "overlay2" });
    await maker.ok(["import", tar, baseImage]);
    await maker.ok(["build", "-q", "--build-arg", "N=loaded", "-t", loaded, context]);
    await maker.ok(["save", "-o", archive, loaded]);
  }
  await succeed("rm", ["-rf", root]);
  return { tar, archive, context };
}

export function makeWorld(world: Omit<World, "count" | "ledger">): World {
  return { ...world, ledger: new Ledger(), count: 0 };
}

const pick = <T>({ random }: World, from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];

export async function make(world: World, kind: Kind, name: string, args: readonly string[]): Promise<void> {
  world.ledger.begin(kind, name);
  const { code } = await world.daemon.docker(args);
  if (code === 0) world.ledger.made(kind, name);
}

async function take(world: World, kind: Kind, args: readonly string[]): Promise<void> {
  const name = pick(
    world,
    world.ledger.present(kind).filter((one) => one !== baseImage),
  );
  if (name === undefined) return;
  world.ledger.beginRemoval(kind, name);
  const { code } = await world.daemon.docker([...args, name]);
  if (code === 0) world.ledger.removed(kind, name);
}

async function commit(world: World, name: string): Promise<void> {
  const container = pick(world, world.ledger.present("container"));
  if (container !== undefined) await make(world, "image", name, ["commit", container, name]);
}

/** Its name is there again, or still. */
async function load(world: World): Promise<void> {
  const here = world.ledger.present("image").includes(loaded);
  if (!here) return make(world, "image", loaded, ["load", "-q", "-i", world.goods.archive]);
  await world.ledger.remaking("image", loaded, () => world.daemon.docker(["load", "-q", "-i", world.goods.archive]));
}

const write = "echo x >/f; echo y >/data/g";

function actsOf(world: World): readonly (() => Promise<void>)[] {
  const { tar, context } = world.goods;
  const id = `k${world.count++}`;
  const build = ["build", "-q", "--build-arg", `N=${id}`, "-t", `built:${id}`, context];
  const run = ["run", "--name", id, "-v", `vol-${id}:/data`, "busybox", "sh", "-c", write];
  return [
    () => make(world, "image", `imp:${id}`, ["import", tar, `imp:${id}`]),
    () => make(world, "image", `built:${id}`, build),
    () => make(world, "container", id, ["run", "-d", "--name", id, "busybox", "sleep", "1000"]),
    () => make(world, "container", id, run),
    () => make(world, "container", id, ["create", "--name", id, "busybox", "true"]),
    () => make(world, "volume", `named-${id}`, ["volume", "create", `named-${id}`]),
    () => commit(world, `com:${id}`),
    () => load(world),
    () => take(world, "container", ["rm", "-f"]),
    () => take(world, "container", ["rm", "-f"]),
    () => take(world, "image", ["rmi", "-f"]),
    () => take(world, "volume", ["volume", "rm"]),
  ];
}

/** One client's work. */
export async function work(world: World, until: AbortSignal): Promise<void> {
  while (!until.aborted) await pick(world, actsOf(world))?.();
}
