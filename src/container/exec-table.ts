/**
 * Exec sessions by id. One that was started outlives the engine, as its process does; an ended one is forgotten after five
 * minutes, as Docker does.
 */
import { EngineError } from "../base/errors.ts";
import type { Exec } from "./container.ts";

const rememberedFor = 5 * 60_000;

export class ExecTable {
  readonly #sessions = new Map<string, Exec>();
  readonly #forgetting = new Map<string, NodeJS.Timeout>();

  set(exec: Exec): void {
    this.#sessions.set(exec.id, exec);
  }

  /** Throws not_found "No such exec instance: x". */
  get(id: string): Exec {
    const exec = this.#sessions.get(id);
    if (exec === undefined) throw new EngineError("not_found", `No such exec instance: ${id}`);
    return exec;
  }

  of(containerId: string): readonly Exec[] {
    return [...this.#sessions.values()].filter((exec) => exec.containerId === containerId);
  }

  /** The session has ended; it can be inspected for a while yet. */
  end(id: string, exitCode: number): void {
    const exec = this.#sessions.get(id);
    if (exec === undefined) return;
    this.#sessions.set(id, { ...exec, running: false, exitCode, pid: 0 });
    const timer = setTimeout(() => this.#forget(id), rememberedFor);
    timer.unref();
    this.#forgetting.set(id, timer);
  }

  forgetAll(containerId: string): void {
    for (const { id } of this.of(containerId)) this.#forget(id);
  }

  close(): void {
    for (const id of [...this.#sessions.keys()]) this.#forget(id);
  }

  #forget(id: string): void {
    clearTimeout(this.#forgetting.get(id));
    this.#forgetting.delete(id);
    this.#sessions.delete(id);
  }
}
