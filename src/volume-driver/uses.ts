/** Who has the volumes of a driver: uses that mounted them, and copies that are made while they may be used. In memory only. */
import { EngineError } from "../base/errors.ts";

export class VolumeUses {
  /** Volume -> the ids of its uses. */
  readonly #uses = new Map<string, Set<string>>();
  /** Volume -> how many copies of it, or of its snapshots, are being made. */
  readonly #copies = new Map<string, number>();

  begin(name: string, use: string): void {
    this.#uses.set(name, (this.#uses.get(name) ?? new Set()).add(use));
  }

  /** True when that was the last one. */
  end(name: string, use: string): boolean {
    const uses = this.#uses.get(name);
    if (uses === undefined || !uses.delete(use) || uses.size > 0) return false;
    this.#uses.delete(name);
    return true;
  }

  isMounted = (name: string): boolean => this.#uses.has(name);
  isUsed = (name: string): boolean => this.isMounted(name) || this.#copies.has(name);

  /** Until it is disposed the volume and its snapshots stay where they are, mounted or not. */
  copying(name: string): Disposable {
    const add = (count: number): void => {
      const left = (this.#copies.get(name) ?? 0) + count;
      if (left > 0) this.#copies.set(name, left);
      else this.#copies.delete(name);
    };
    add(1);
    return { [Symbol.dispose]: () => add(-1) };
  }

  /** Throws conflict. */
  refuseUsed(name: string): void {
    if (this.isMounted(name))
      throw new EngineError("conflict", "volume has active mounts; stop the containers that use it first");
    this.refuseCopied(name);
  }

  /** Throws conflict. */
  refuseCopied(name: string): void {
    if (this.#copies.has(name))
      throw new EngineError("conflict", `a copy of volume ${name} is being made; wait until that has ended`);
  }
}
