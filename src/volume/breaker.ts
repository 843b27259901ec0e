/**
 * Circuit breakers of volumes whose server does not answer. The first call that waits too long opens the volume's
 * breaker; until the server has answered a look in the background, whoever wants the volume is told so at once.
 */
import { EngineError } from "../base/errors.ts";

export type Broken = { readonly volume: string; readonly driver: string };

type Open = Broken & { readonly since: string; readonly stop: AbortController; probing: Promise<void> };

/** Milliseconds between looks at what does not answer: at first, and at most. */
const firstPause = 1000;
const longestPause = 60_000;

export class Breakers {
  readonly #open = new Map<string, Open>();
  readonly #firstPause: number;

  constructor(pause: number = firstPause) {
    this.#firstPause = pause;
  }

  /** Throws unavailable while the volume's server is known not to answer. */
  check(volume: string): void {
    const open = this.#open.get(volume);
    if (open !== undefined) throw new EngineError("unavailable", `${sentence(open)}; try again later`);
  }

  /** The server did not answer in time. `probe` asks it again; its success is an answer. */
  trip(broken: Broken, probe: (signal: AbortSignal) => Promise<void>): void {
    if (this.#open.has(broken.volume)) return;
    const stop = new AbortController();
    const open: Open = { ...broken, since: now(), stop, probing: Promise.resolve() };
    this.#open.set(broken.volume, open);
    void this.#ask(open, probe);
  }

  /** One line for each volume whose server does not answer, by name. */
  warnings(): readonly string[] {
    return [...this.#open.values()].sort((a, b) => (a.volume < b.volume ? -1 : 1)).map(sentence);
  }

  /** Asks no more, and forgets that the volume did not answer. Resolves when no question is under way. */
  async close(volume: string): Promise<void> {
    const open = this.#open.get(volume);
    if (open === undefined) return;
    open.stop.abort();
    await open.probing;
    this.#forget(open);
  }

  async #ask(open: Open, probe: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal } = open.stop;
    for (let pause = this.#firstPause; !signal.aborted; pause = Math.min(pause * 2, longestPause)) {
      await waited(pause, signal);
      if (signal.aborted) return;
      let answered = false;
      open.probing = probe(signal).then(
        () => {
          answered = true;
        },
        () => undefined,
      );
      await open.probing;
      if (answered) this.#forget(open);
      if (answered) return;
    }
  }

  #forget(open: Open): void {
    open.stop.abort();
    if (this.#open.get(open.volume) === open) this.#open.delete(open.volume);
  }
}

const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, "Z");

const sentence = ({ volume, driver, since }: Open): string =>
  `volume ${volume} of driver ${driver} does not answer since ${since}: whoever serves it is asked again in the background`;

async function waited(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds).unref();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
}
