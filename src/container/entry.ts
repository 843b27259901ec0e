/**
 * One container in memory: its record, its last known state and its phase. Changes of phase happen under `lock`; reading
 * needs no lock, because every change is one assignment.
 *
 * Phases: idle -> running -> idle | restarting -> running ...; idle -> removing -> removed.
 */
import { EngineError } from "../base/errors.ts";
import type { Container, ContainerState, ContainerStatus, WaitCondition } from "./container.ts";
import type { LateAttachment } from "./late-attachment.ts";
import { Mutex } from "./mutex.ts";
import type { ContainerRecord, SavedState } from "./record.ts";
import { RestartTracker } from "./restart-policy.ts";

/** One life of the container's first process. */
export type Run = {
  readonly pid: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** Where its root is mounted on the host. */
  readonly rootfs: string;
  paused: boolean;
  /** Paused by the engine itself for a moment (commit, fork): nobody's wish, and not to outlive the engine. */
  held?: boolean;
  /** A stop or kill asked for the end: no restart follows. */
  stopRequested: boolean;
  /** `--rm`: the container goes with this run. */
  autoRemove: boolean;
  /** Resolves when the exit is known; what was mounted may still be. Never rejects. */
  readonly exited: Promise<void>;
  /** Resolves when the exit is handled: state known, mounts given back. Never rejects. */
  readonly ended: Promise<void>;
};

export type Phase =
  | { readonly kind: "idle" | "removing" | "removed" }
  | { readonly kind: "running"; readonly run: Run }
  | { readonly kind: "restarting"; readonly cancel: AbortController };

export type WaitResult = { readonly exitCode: number; readonly error?: string };

type Waiter = { readonly resolve: (result: WaitResult) => void; readonly reject: (error: unknown) => void };

export class Entry {
  record: ContainerRecord;
  saved: SavedState;
  phase: Phase = { kind: "idle" };
  readonly lock = new Mutex();
  readonly restarts = new RestartTracker();
  /** Clients that attached before the start. */
  readonly attaching = new Set<LateAttachment>();
  readonly #exitWaiters = new Set<Waiter>();
  readonly #removalWaiters = new Set<Waiter>();

  constructor(record: ContainerRecord, saved: SavedState) {
    this.record = record;
    this.saved = saved;
  }

  get id(): string {
    return this.record.id;
  }

  /** The current run; undefined also while a restart is pending. */
  get run(): Run | undefined {
    return this.phase.kind === "running" ? this.phase.run : undefined;
  }

  /** Throws not_found when it was removed, conflict while it is being removed. */
  refuseGone(): void {
    const { phase, id } = this;
    if (phase.kind === "removed") throw new EngineError("not_found", `No such container: ${id}`);
    if (phase.kind === "removing")
      throw new EngineError("conflict", `removal of container ${id} is already in progress`);
  }

  /** The current run, or conflict with `text`. */
  runOr(text: string): Run {
    const { run } = this;
    if (run === undefined) throw new EngineError("conflict", text);
    return run;
  }

  /** Docker counts a pending restart as running. */
  get isRunning(): boolean {
    return this.phase.kind === "running" || this.phase.kind === "restarting";
  }

  view(): Container {
    return { ...this.record, restartCount: this.saved.restartCount, state: this.#state() };
  }

  wait(condition: WaitCondition): Promise<WaitResult> {
    if (condition === "not-running" && !this.isRunning) return Promise.resolve(this.result());
    if (this.phase.kind === "removed") return Promise.resolve(this.result());
    return new Promise((resolve, reject) => {
      (condition === "removed" ? this.#removalWaiters : this.#exitWaiters).add({ resolve, reject });
    });
  }

  tellExit(): void {
    tell(this.#exitWaiters, (waiter) => waiter.resolve(this.result()));
  }

  /** Nobody waits for what is no more, whatever they waited for. */
  tellRemoved(): void {
    this.tellExit();
    tell(this.#removalWaiters, (waiter) => waiter.resolve(this.result()));
  }

  /** The engine closes: the container goes on, but this engine will not see how. */
  giveUp(error: EngineError): void {
    tell(this.#exitWaiters, (waiter) => waiter.reject(error));
    tell(this.#removalWaiters, (waiter) => waiter.reject(error));
  }

  result(): WaitResult {
    const { exitCode, error } = this.saved;
    return error === "" ? { exitCode } : { exitCode, error };
  }

  #state(): ContainerState {
    const { exitCode, error, oomKilled, startedAt, finishedAt } = this.saved;
    return { status: this.#status(), pid: this.run?.pid ?? 0, exitCode, error, oomKilled, startedAt, finishedAt };
  }

  #status(): ContainerStatus {
    switch (this.phase.kind) {
      case "running":
        return this.phase.run.paused ? "paused" : "running";
      case "restarting":
        return "restarting";
      case "removing":
      case "removed":
        return "removing";
      case "idle":
        return this.saved.status === "running" ? "exited" : this.saved.status;
    }
  }
}

function tell(waiters: Set<Waiter>, how: (waiter: Waiter) => void): void {
  const told = [...waiters];
  waiters.clear();
  for (const waiter of told) how(waiter);
}
