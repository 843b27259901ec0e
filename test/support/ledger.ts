/**
 * What a client was told: objects whose creation or removal was acknowledged. After a crash every acknowledged object
 * must be there, every acknowledged removal must have held, and what was under way may be either.
 */
import type { Daemon } from "./engine.ts";

export type Kind = "image" | "container" | "volume";

export class Ledger {
  readonly #present: Record<Kind, Set<string>> = { image: new Set(), container: new Set(), volume: new Set() };
  readonly #uncertain: Record<Kind, Set<string>> = { image: new Set(), container: new Set(), volume: new Set() };

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
    this.#uncertain[kind].delete(name);
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

/** Names that the engine lists, by kind. */
export async function listed(daemon: Daemon, kind: Kind): Promise<ReadonlySet<string>> {
  const arguments_: Record<Kind, readonly string[]> = {
    image: ["images", "--format", "{{.Repository}}:{{.Tag}}"],
    container: ["ps", "-a", "--format", "{{.Names}}"],
    volume: ["volume", "ls", "-q"],
  };
  const text = await daemon.ok(arguments_[kind]);
  return new Set(text.split("\n").filter((line) => line !== "" && line !== "<none>:<none>"));
}
