/**
 * Clients of the guest's engine: imports, builds, containers with volumes, commits and removals, chosen by a seed, each
 * noted in a {@link History} before it is asked for and when it was acknowledged.
 */
import { type Content, filesOf } from "./content.ts";
import type { DiskLog } from "./disk-log.ts";
import type { Answer, Order } from "./guest/orders.ts";
import type { History, Kind } from "./history.ts";
import { sha256 } from "./volume-content.ts";

/** Something that takes orders: the agent of a machine. */
export type Orders = { readonly order: (order: Order, deadline?: number) => Promise<Answer> };

export type World = {
  readonly guest: Orders;
  readonly log: DiskLog;
  readonly history: History;
  readonly random: () => number;
  /** Volume -> what it got from its image. */
  readonly copied: Map<string, ReadonlyMap<string, string>>;
  /** Image -> the tree in it. */
  readonly contents: Map<string, Content>;
  /** Images of containers, and containers that something is done with: nobody removes them. */
  readonly using: Set<string>;
  count: number;
};

type Request = Omit<Extract<Order, { do: "ask" }>, "do">;

/** Where every image has its tree. */
const folder = "content";
const options = { Cmd: ["true"] };

async function ask(world: World, request: Request): Promise<string> {
  const { status, text } = await world.guest.order({ do: "ask", ...request });
  // Streams of progress answer 200 and say their failure in a line.
  if (status < 200 || status >= 300 || text.includes('"errorDetail"'))
    throw new Error(`${request.method} ${request.path}: ${status} ${text}`);
  return text;
}

async function make(world: World, what: readonly [Kind, string], request: Request): Promise<void> {
  const [kind, name] = what;
  world.history.note(kind, name, "begun", world.log.length);
  await ask(world, request);
  world.history.note(kind, name, "made", world.log.length);
}

function pick<T>(world: World, from: readonly T[]): T | undefined {
  return from[Math.floor(world.random() * from.length)];
}

async function take(world: World, kind: Kind, path: (name: string) => string): Promise<void> {
  // Other volumes belong to containers.
  const free = (name: string): boolean =>
    kind === "volume" ? name.startsWith("named") : name !== firstImage && !world.using.has(name);
  const name = pick(world, world.history.present(kind).filter(free));
  if (name === undefined) return;
  world.history.note(kind, name, "removal begun", world.log.length);
  await ask(world, { method: "DELETE", path: path(name) });
  world.history.note(kind, name, "removed", world.log.length);
}

export const firstImage = "first:1";

function newContent(world: World): Content {
  return { seed: Math.floor(world.random() * 2 ** 31), folder, files: 4 + Math.floor(world.random() * 14) };
}

export async function importImage(world: World, name = `imported:${world.count++}`): Promise<void> {
  const tar = newContent(world);
  const [repo, tag] = name.split(":");
  const path = `/images/create?fromSrc=-&repo=${repo}&tag=${tag}`;
  world.contents.set(name, tar);
  await make(world, ["image", name], { method: "POST", path, tar });
}

async function build(world: World): Promise<void> {
  const name = `built:${world.count++}`;
  const dockerfile = `FROM ${firstImage}\nCOPY ${folder}/d0 /one\nLABEL n=${name}\nCOPY ${folder}/d1 /two\n`;
  const tar = { ...newContent(world), dockerfile };
  await make(world, ["image", name], { method: "POST", path: `/build?t=${name}`, tar });
}

/** A container whose new volume gets what its image has there. */
async function createWithVolume(world: World): Promise<void> {
  const id = world.count++;
  const image = pick(
    world,
    world.history.present("image").filter((name) => world.contents.has(name)),
  );
  const content = image === undefined ? undefined : world.contents.get(image);
  if (image === undefined || content === undefined) return;
  const volume = `filled-${id}`;
  world.history.note("volume", volume, "begun", world.log.length);
  const json = { Image: image, ...options, HostConfig: { Binds: [`${volume}:/${folder}`] } };
  world.using.add(image);
  await make(world, ["container", `v${id}`], { method: "POST", path: `/containers/create?name=v${id}`, json });
  world.copied.set(volume, sha256(filesOf(content), `${folder}/`));
  world.history.note("volume", volume, "made", world.log.length);
}

async function create(world: World): Promise<void> {
  const id = `c${world.count++}`;
  const json = { Image: firstImage, ...options };
  await make(world, ["container", id], { method: "POST", path: `/containers/create?name=${id}`, json });
}

/** What a client copies into a container becomes an image. */
async function commit(world: World): Promise<void> {
  const id = world.count++;
  const container = `w${id}`;
  world.using.add(container);
  const json = { Image: firstImage, ...options };
  await make(world, ["container", container], { method: "POST", path: `/containers/create?name=${container}`, json });
  const tar = { ...newContent(world), folder: "written" };
  await ask(world, { method: "PUT", path: `/containers/${container}/archive?path=/`, tar });
  const path = `/commit?container=${container}&repo=committed&tag=${id}`;
  await make(world, ["image", `committed:${id}`], { method: "POST", path });
  world.using.delete(container);
}

async function createVolume(world: World): Promise<void> {
  const name = `named-${world.count++}`;
  await make(world, ["volume", name], { method: "POST", path: "/volumes/create", json: { Name: name } });
}

const acts: readonly ((world: World) => Promise<void>)[] = [
  importImage,
  importImage,
  build,
  build,
  create,
  createWithVolume,
  createWithVolume,
  commit,
  commit,
  createVolume,
  (world) => take(world, "container", (name) => `/containers/${name}?force=1`),
  (world) => take(world, "image", (name) => `/images/${name}?force=1`),
  (world) => take(world, "volume", (name) => `/volumes/${name}`),
];

/** One client's work, until there was enough of it or the machine went. */
export async function work(world: World, enough: () => boolean): Promise<void> {
  while (!enough()) await pick(world, acts)?.(world);
}
