/**
 * What a client asked for and was told, on the clock of the disk's log: so that for a power cut at any moment it is known
 * what must be there, what must not, and what may be either because it was under way.
 *
 * An act that began at `moment` can have changed the disk only later; one that was acknowledged at `moment` stands on
 * what the disk was told before.
 */
export type Kind = "image" | "container" | "volume";

export const kinds: readonly Kind[] = ["image", "container", "volume"];

type Phase = "begun" | "made" | "removal begun" | "removed";

type Event = { readonly kind: Kind; readonly name: string; readonly phase: Phase; readonly moment: number };

export type Listing = Readonly<Record<Kind, ReadonlySet<string>>>;

export class History {
  readonly #events: Event[] = [];

  /** Begins with what was there, which counts as acknowledged. */
  constructor(there?: Listing) {
    for (const kind of kinds) for (const name of there?.[kind] ?? []) this.note(kind, name, "made", 0);
  }

  note(kind: Kind, name: string, phase: Phase, moment: number): void {
    this.#events.push({ kind, name, phase, moment });
  }

  /** How many acts were acknowledged by then. */
  acknowledged(moment: number): number {
    return this.#events.filter(
      (event) => event.moment <= moment && (event.phase === "made" || event.phase === "removed"),
    ).length;
  }

  /** Names whose creation was acknowledged by `moment` and whose removal had not begun. */
  present(kind: Kind, moment = Number.POSITIVE_INFINITY): string[] {
    return [...this.#states(kind, moment)].flatMap(([name, phase]) => (phase === "made" ? [name] : []));
  }

  /** What is wrong with `listed` after a power cut at `moment`. */
  complaints(moment: number, listed: Listing): string[] {
    return kinds.flatMap((kind) => {
      const states = this.#states(kind, moment);
      const gone = [...states].filter(([name, phase]) => phase === "made" && !listed[kind].has(name));
      const strange = [...listed[kind]].filter((name) => (states.get(name) ?? "removed") === "removed");
      return [
        ...gone.map(([name]) => `acknowledged ${kind} ${name} is gone`),
        ...strange.map((name) =>
          states.has(name)
            ? `${kind} ${name} is there, though its removal was acknowledged`
            : `${kind} ${name} is there, though nobody had asked for it yet`,
        ),
      ];
    });
  }

  #states(kind: Kind, moment: number): Map<string, Phase> {
    const states = new Map<string, Phase>();
    for (const event of this.#events) {
      const under = event.phase === "begun" || event.phase === "removal begun";
      const happened = under ? event.moment < moment : event.moment <= moment;
      if (event.kind === kind && happened) states.set(event.name, event.phase);
    }
    return states;
  }
}
