/**
 * What a client was told: objects whose creation or removal was acknowledged. After a crash every acknowledged object
 * must be there, every acknowledged removal must have held, and what was under way may be either.
 */
import { call } from "./api.ts";
import type { Daemon } from "./engine.ts";

export type Kind = "image" | "container" | "volume";

export class Ledger {
  readonly #present: Record<Kind, Set<string>> = { image: new Set(), container: new Set(), volume: new Set() };
  readonly #uncertain: Record<Kind, Set<string>> = { image: new Set(), container: new Set(), volume: new Set() };
  /** What is made once more at this moment, and by how many. */
  readonly #remade = new Map<string, number>();

  /** Answers that said yes: what was made, and what was removed. */
  readonly acknowledged = { made: 0, removed: 0 };

  present(kind: Kind): readonly string[] {
    return [...this.#present[kind]];
  }

  begin(kind: Kind, name: string): void {
    this.#uncertain[kind].add(name);
  }

  made(kind: Kind, name: string): void {
    this.acknowledged.made++;
    this.#uncertain[kind].delete(name);
    this.#present[kind].add(name);
  }

  beginRemoval(kind: Kind, name: string): void {
    this.#present[kind].delete(name);
    this.#uncertain[kind].add(name);
  }

  removed(kind: Kind, name: string): void {
    this.acknowledged.removed++;
    // Whoever makes it again meanwhile may come after the removal.
    if (!this.#remade.has(`${kind} ${name}`)) this.#uncertain[kind].delete(name);
  }

  /** `work` makes what is there already once more. */
  async remaking(kind: Kind, name: string, work: () => Promise<unknown>): Promise<void> {
    const key = `${kind} ${name}`;
    this.#remade.set(key, (this.#remade.get(key) ?? 0) + 1);
    try {
      await work();
    } finally {
      const left = (this.#remade.get(key) ?? 1) - 1;
      if (left > 0) this.#remade.set(key, left);
      else this.#remade.delete(key);
    }
  }

  /** All answers that said yes. */
  get answers(): number {
    return this.acknowledged.made + this.acknowledged.removed;
  }

  /** Compares with what the engine lists; what was uncertain becomes what it is. Returns complaints. */
  reconcile(kind: Kind, listed: ReadonlySet<string>): string[] {
    const complaints: string[] = [];
    for (const name of this.#present[kind])
      if (!listed.has(name)) complaints.push(`acknowledged ${kind} ${name} is gone`);
    for (const name of listed) {
      if (this.#uncertain[kind].has(name)) this.#present[kind].add(name);
      else if (!this.#present[kind].has(name))
        complaints.push(`${kind} ${name} is there, though its removal was acknowledged or it was never made`);
    }
    this.#uncertain[kind].clear();
    return complaints;
  }
}

type Names = {
  readonly RepoTags?: readonly string[] | null;
  readonly Names?: readonly string[];
  readonly Name?: string;
};

const paths: Record<Kind, string> = { image: "/images/json", container: "/containers/json?all=1", volume: "/volumes" };

async function ask(daemon: Daemon, path: string): Promise<unknown> {
  const { status, text } = await call(daemon, { method: "GET", path });
  if (status !== 200) throw new Error(`GET ${path}: ${status} ${text}\n${daemon.log().slice(-2000)}`);
  return JSON.parse(text);
}

/** Names that the engine lists, by kind. */
export async function listed(daemon: Daemon, kind: Kind): Promise<ReadonlySet<string>> {
  const answer = (await ask(daemon, paths[kind])) as readonly Names[] | { readonly Volumes: readonly Names[] };
  const rows = "Volumes" in answer ? answer.Volumes : answer;
  const names = rows.flatMap(({ RepoTags, Names, Name }) => [...(RepoTags ?? []), ...(Names ?? []), Name ?? ""]);
  return new Set(
    names.filter((name) => name !== "" && name !== "<none>:<none>").map((name) => name.replace(/^\//, "")),
  );
}

/** What keeps an object from being inspected; undefined when nothing does. */
export async function inspectFailure(daemon: Daemon, kind: Kind, name: string): Promise<string | undefined> {
  const path = kind === "volume" ? `/volumes/${name}` : `/${kind}s/${name}/json`;
  const { status, text } = await call(daemon, { method: "GET", path });
  return status === 200 ? undefined : `inspect of ${kind} ${name}: ${status} ${text}`;
}
