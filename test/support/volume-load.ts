/**
 * What clients do with volumes until the daemon goes: volumes are made, cloned, kept as snapshots, turned back and removed,
 * containers with them are started, written to, stopped and removed. Every client has volumes of its own and does one thing
 * at a time, so it knows what must be in each: a kill leaves at most one act of it in doubt.
 */
import assert from "node:assert/strict";
import { type Answer, type Call, call } from "./api.ts";
import type { Daemon } from "./engine.ts";
import { tarOf } from "./tar-bytes.ts";

/** Names of files: those that are there for certain, and those that may be. A file's content is its name. */
export type Content = { readonly must: ReadonlySet<string>; readonly may: ReadonlySet<string> };

export type KnownVolume = { content: Content; readonly snapshots: Map<string, Content> };
export type KnownContainer = {
  readonly volume: string;
  running: boolean;
  /** Its process on this machine, where it was looked for. */
  pid?: number;
};

/** What a daemon says that there is. */
export type Seen = {
  readonly volumes: ReadonlyMap<string, ReadonlySet<string>>;
  readonly containers: ReadonlyMap<string, { readonly running: boolean }>;
};

export type VolumeWorld = {
  daemon: Daemon;
  readonly driver: string;
  readonly random: () => number;
  /** Options of the next volume. */
  readonly optionsFor: (random: () => number) => Readonly<Record<string, string>>;
  /** The daemon is being killed: what fails now is in doubt. */
  dying: boolean;
  readonly acknowledged: Map<string, number>;
  readonly doubted: Map<string, number>;
};

type Act = {
  readonly what: string;
  readonly call: Call;
  /** It is refused, in these words. */
  readonly refused?: RegExp;
  readonly done?: () => void;
  /** Whether an act in doubt was done; undefined: nobody can say, and `doubtful` is called instead. */
  readonly happened?: (seen: Seen) => boolean;
  readonly doubtful?: (seen: Seen) => void;
};

export const image = "bb";
/** What containers run. */
export const lasting = ["sleep", "100000"];
const nothing: Content = { must: new Set(), may: new Set() };
const mostVolumes = 4;
const mostContainers = 3;
const mostSnapshots = 3;
const patience = 120_000;

const add = (map: Map<string, number>, key: string): void => void map.set(key, (map.get(key) ?? 0) + 1);
const withFile = (files: ReadonlySet<string>, name: string): ReadonlySet<string> => new Set([...files, name]);

export class VolumeClient {
  readonly volumes = new Map<string, KnownVolume>();
  readonly containers = new Map<string, KnownContainer>();
  readonly complaints: string[] = [];
  readonly #world: VolumeWorld;
  readonly #name: string;
  #count = 0;
  #doubt: Act | undefined;

  constructor(world: VolumeWorld, name: string) {
    this.#world = world;
    this.#name = name;
  }

  async work(until: AbortSignal): Promise<void> {
    while (!until.aborted && this.#doubt === undefined && this.complaints.length === 0) {
      const act = this.#choose();
      if (act !== undefined) await this.#run(act);
    }
  }

  /** Makes what was in doubt certain, and compares. */
  settle(seen: Seen): void {
    const doubt = this.#doubt;
    this.#doubt = undefined;
    if (doubt !== undefined) {
      if (doubt.happened?.(seen) === true) doubt.done?.();
      else doubt.doubtful?.(seen);
    }
    const mine = (name: string): boolean => name.startsWith(`${this.#name}-`);
    const compare = (what: string, known: Iterable<string>, found: Iterable<string>): void => {
      const [left, right] = [[...known].sort().join(" "), [...found].filter(mine).sort().join(" ")];
      if (left !== right) this.complaints.push(`${what}: acknowledged is "${left}", there is "${right}"`);
    };
    compare("volumes", this.volumes.keys(), seen.volumes.keys());
    compare("containers", this.containers.keys(), seen.containers.keys());
    for (const [name, { snapshots }] of this.volumes)
      compare(`snapshots of ${name}`, snapshots.keys(), seen.volumes.get(name) ?? []);
    for (const [name, { running }] of this.containers)
      if (seen.containers.get(name)?.running !== running) this.complaints.push(`${name}: running is not ${running}`);
  }

  async #run(act: Act): Promise<void> {
    const { what, refused, done } = act;
    let answer: Answer;
    try {
      answer = await call(this.#world.daemon, { ...act.call, deadline: patience });
    } catch (error) {
      if (!this.#world.dying) this.complaints.push(`${what}: ${error}`);
      add(this.#world.doubted, what);
      this.#doubt = act;
      return;
    }
    // Long verbs answer in messages, the last of which may be a failure.
    const failed = answer.status >= 300 || answer.text.includes('"error"');
    const words = `${what}: ${answer.status} ${answer.text}`;
    if (refused === undefined ? failed : !failed || !refused.test(answer.text)) this.complaints.push(words);
    else {
      add(this.#world.acknowledged, refused === undefined ? what : `${what}, refused`);
      done?.();
    }
  }

  #pick<T>(from: Iterable<T>): T | undefined {
    const all = [...from];
    return all[Math.floor(this.#world.random() * all.length)];
  }

  #choose(): Act | undefined {
    const acts: readonly (() => Act | undefined)[] = [
      () => this.#createVolume(),
      () => this.#removeVolume(),
      () => this.#removeVolume(),
      () => this.#createContainer(),
      () => this.#createContainer(),
      () => this.#startContainer(),
      () => this.#startContainer(),
      () => this.#write(),
      () => this.#write(),
      () => this.#stopContainer(),
      () => this.#removeContainer(),
      () => this.#snapshot(),
      () => this.#snapshot(),
      () => this.#removeSnapshot(),
      () => this.#restore(),
      () => this.#clone(),
      () => this.#clone(),
    ];
    return this.#pick(acts)?.();
  }

  #next = (kind: string): string => `${this.#name}-${kind}${this.#count++}`;
  #usersOf = (volume: string): readonly KnownContainer[] =>
    [...this.containers.values()].filter((container) => container.volume === volume);

  #createVolume(): Act | undefined {
    if (this.volumes.size >= mostVolumes) return undefined;
    const { driver, optionsFor, random } = this.#world;
    const name = this.#next("v");
    return {
      what: "create a volume",
      call: {
        method: "POST",
        path: "/volumes/create",
        json: { Name: name, Driver: driver, DriverOpts: optionsFor(random) },
      },
      done: () => void this.volumes.set(name, { content: nothing, snapshots: new Map() }),
      happened: ({ volumes }) => volumes.has(name),
    };
  }

  #removeVolume(): Act | undefined {
    const [name, known] = this.#pick(this.volumes) ?? [];
    if (name === undefined || known === undefined) return undefined;
    const what = "remove a volume";
    const request = { method: "DELETE", path: `/volumes/${name}` };
    if (this.#usersOf(name).length > 0) return { what, call: request, refused: /volume is in use/ };
    if (known.snapshots.size > 0 && this.#world.random() < 0.5)
      return { what, call: request, refused: /volume has snapshots/ };
    return {
      what,
      call: { ...request, path: `${request.path}?force=1` },
      done: () => void this.volumes.delete(name),
      happened: ({ volumes }) => !volumes.has(name),
      // Its snapshots went first.
      doubtful: ({ volumes }) => {
        for (const snapshot of known.snapshots.keys())
          if (volumes.get(name)?.has(snapshot) !== true) known.snapshots.delete(snapshot);
      },
    };
  }

  #createContainer(): Act | undefined {
    const volume = this.#pick(this.volumes.keys());
    if (volume === undefined || this.containers.size >= mostContainers) return undefined;
    const name = this.#next("c");
    return {
      what: "create a container",
      call: {
        method: "POST",
        path: `/containers/create?name=${name}`,
        json: {
          Image: image,
          Cmd: lasting,
          HostConfig: { NetworkMode: "none", Binds: [`${volume}:/d`] },
        },
      },
      done: () => void this.containers.set(name, { volume, running: false }),
      happened: ({ containers }) => containers.has(name),
    };
  }

  #container(running: boolean): readonly [string, KnownContainer] | undefined {
    return this.#pick([...this.containers].filter(([, known]) => known.running === running));
  }

  #startContainer(): Act | undefined {
    const [name, known] = this.#container(false) ?? [];
    if (known === undefined) return undefined;
    return {
      what: "start a container",
      call: { method: "POST", path: `/containers/${name}/start` },
      done: () => {
        known.running = true;
      },
      happened: ({ containers }) => containers.get(name ?? "")?.running === true,
    };
  }

  #stopContainer(): Act | undefined {
    const [name, known] = this.#container(true) ?? [];
    if (known === undefined) return undefined;
    return {
      what: "stop a container",
      call: { method: "POST", path: `/containers/${name}/stop?t=0` },
      done: () => {
        known.running = false;
        delete known.pid;
      },
      happened: ({ containers }) => containers.get(name ?? "")?.running === false,
    };
  }

  #removeContainer(): Act | undefined {
    const [name = "", known] = this.#pick(this.containers) ?? [];
    if (known === undefined) return undefined;
    return {
      what: "remove a container",
      call: { method: "DELETE", path: `/containers/${name}?force=1` },
      done: () => void this.containers.delete(name),
      happened: ({ containers }) => !containers.has(name),
      // Its process goes first.
      doubtful: ({ containers }) => {
        known.running = containers.get(name)?.running === true;
        if (!known.running) delete known.pid;
      },
    };
  }

  /** Through a container, which may run: else its volume is mounted for it. */
  #write(): Act | undefined {
    const [name = "", container] = this.#pick(this.containers) ?? [];
    const known = this.volumes.get(container?.volume ?? "");
    if (known === undefined) return undefined;
    const file = this.#next("f");
    const { must, may } = known.content;
    return {
      what: "write a file",
      call: {
        method: "PUT",
        path: `/containers/${name}/archive?path=/d`,
        body: tarOf({ name: file, content: `${file}\n` }),
      },
      done: () => {
        known.content = { must: withFile(must, file), may: withFile(may, file) };
      },
      doubtful: () => {
        known.content = { must, may: withFile(may, file) };
      },
    };
  }

  #snapshot(): Act | undefined {
    const [volume, known] = this.#pick(this.volumes) ?? [];
    if (volume === undefined || known === undefined || known.snapshots.size >= mostSnapshots) return undefined;
    const snapshot = this.#next("s");
    const { content } = known;
    return {
      what: "make a snapshot",
      call: { method: "POST", path: `/strata/volumes/${volume}/snapshots?name=${snapshot}` },
      done: () => void known.snapshots.set(snapshot, content),
      happened: ({ volumes }) => volumes.get(volume)?.has(snapshot) === true,
    };
  }

  #anySnapshot(): readonly [volume: string, known: KnownVolume, snapshot: string, content: Content] | undefined {
    return this.#pick(
      [...this.volumes].flatMap(([volume, known]) =>
        [...known.snapshots].map(([name, content]) => [volume, known, name, content] as const),
      ),
    );
  }

  #removeSnapshot(): Act | undefined {
    const [volume = "", known, snapshot = ""] = this.#anySnapshot() ?? [];
    if (known === undefined) return undefined;
    return {
      what: "remove a snapshot",
      call: { method: "DELETE", path: `/strata/volumes/${volume}/snapshots/${snapshot}` },
      done: () => void known.snapshots.delete(snapshot),
      happened: ({ volumes }) => volumes.get(volume)?.has(snapshot) !== true,
    };
  }

  #restore(): Act | undefined {
    const [volume = "", known, snapshot = "", then = nothing] = this.#anySnapshot() ?? [];
    if (known === undefined) return undefined;
    const what = "restore a snapshot";
    const request = { method: "POST", path: `/strata/volumes/${volume}/snapshots/${snapshot}/restore` };
    if (this.#usersOf(volume).some(({ running }) => running)) return { what, call: request, refused: /runs? with it/ };
    const { must, may } = known.content;
    return {
      what,
      call: request,
      done: () => {
        known.content = then;
      },
      doubtful: () => {
        known.content = { must: must.intersection(then.must), may: may.union(then.may) };
      },
    };
  }

  #clone(): Act | undefined {
    const [volume, known] = this.#pick(this.volumes) ?? [];
    if (volume === undefined || known === undefined || this.volumes.size >= mostVolumes) return undefined;
    const [snapshot, content = known.content] = (this.#world.random() < 0.5 && this.#pick(known.snapshots)) || [];
    const name = this.#next("v");
    const query = snapshot === undefined ? "" : `?snapshot=${snapshot}`;
    return {
      what: snapshot === undefined ? "clone a volume" : "clone a snapshot",
      call: { method: "POST", path: `/strata/volumes/${volume}/clone${query}`, json: { Name: name } },
      done: () => void this.volumes.set(name, { content, snapshots: new Map() }),
      happened: ({ volumes }) => volumes.has(name),
    };
  }
}

async function ask(daemon: Daemon, path: string): Promise<unknown> {
  const { status, text } = await call(daemon, { method: "GET", path, deadline: patience });
  assert.equal(status, 200, `GET ${path}: ${text}\n${daemon.log().slice(-2000)}`);
  return JSON.parse(text);
}

/** Asks the daemon for everything that it has. */
export async function lookAt(daemon: Daemon): Promise<Seen> {
  type Named = { readonly Name: string };
  const { Volumes } = (await ask(daemon, "/volumes")) as { readonly Volumes: readonly Named[] };
  const snapshots = await Promise.all(
    Volumes.map(async ({ Name }) => (await ask(daemon, `/strata/volumes/${Name}/snapshots`)) as readonly Named[]),
  );
  const containers = (await ask(daemon, "/containers/json?all=1")) as readonly { Names: string[]; State: string }[];
  return {
    volumes: new Map(
      Volumes.map(({ Name }, index) => [Name, new Set((snapshots[index] ?? []).map((one) => one.Name))]),
    ),
    containers: new Map(
      containers.map(({ Names, State }) => [(Names[0] ?? "").slice(1), { running: State === "running" }]),
    ),
  };
}
