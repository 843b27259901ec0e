/**
 * Which volumes a verb works on. Work that only reads may go side by side; work that changes a volume wants it alone. Nobody
 * waits, for such work may take hours: the second is refused, and told of the first. In memory only.
 */
import { EngineError } from "../base/errors.ts";

type Work = { readonly what: string; readonly alone: boolean };

export class Busy {
  readonly #work = new Map<string, Set<Work>>();

  /** Throws conflict while somebody else needs the volume otherwise. */
  begin(name: string, what: string, { alone }: { readonly alone: boolean }): Disposable {
    const works = this.#work.get(name) ?? new Set();
    for (const other of works) if (alone || other.alone) throw busy(name, other.what);
    const own = { what, alone };
    this.#work.set(name, works.add(own));
    return {
      [Symbol.dispose]: () => {
        works.delete(own);
        if (works.size === 0 && this.#work.get(name) === works) this.#work.delete(name);
      },
    };
  }

  refuse(name: string): void {
    for (const { what } of this.#work.get(name) ?? []) throw busy(name, what);
  }
}

const busy = (name: string, what: string): EngineError =>
  new EngineError("conflict", `volume ${name} is in use by another command (${what}): wait until that has ended`);
