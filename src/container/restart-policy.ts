/**
 * When a container that ended is started again: Docker's policies and its back-off (100 ms, doubled each time up to a
 * minute, forgotten after a run of ten seconds).
 */
import type { RestartPolicy } from "./container.ts";

const firstDelay = 100;
const longestDelay = 60_000;
const steadyRun = 10_000;

export type Ending = {
  readonly exitCode: number;
  /** Milliseconds that the container ran. */
  readonly ran: number;
  /** A stop or kill asked for this end. */
  readonly stoppedByUser: boolean;
};

/** One container's restarts in a row. */
export class RestartTracker {
  #delay = 0;
  #attempts = 0;

  /** Milliseconds to wait before the next start, or undefined for none. */
  next(policy: RestartPolicy | undefined, ending: Ending): number | undefined {
    if (ending.ran >= steadyRun) this.reset();
    if (ending.stoppedByUser || !this.#wants(policy, ending.exitCode)) return undefined;
    this.#delay = this.#delay === 0 ? firstDelay : Math.min(this.#delay * 2, longestDelay);
    this.#attempts++;
    return this.#delay;
  }

  /** A start by a user begins anew. */
  reset(): void {
    this.#delay = 0;
    this.#attempts = 0;
  }

  #wants(policy: RestartPolicy | undefined, exitCode: number): boolean {
    switch (policy?.Name) {
      case "always":
      case "unless-stopped":
        return true;
      case "on-failure":
        return exitCode !== 0 && (policy.MaximumRetryCount === 0 || this.#attempts < policy.MaximumRetryCount);
      default:
        return false;
    }
  }
}

/** Whether a container that does not run is started when the engine opens. */
export function startsAtBoot(
  policy: RestartPolicy | undefined,
  state: { readonly started: boolean; readonly exitCode: number; readonly stoppedByUser: boolean },
): boolean {
  if (!state.started) return false;
  if (policy?.Name === "always") return true;
  if (state.stoppedByUser) return false;
  return policy?.Name === "unless-stopped" || (policy?.Name === "on-failure" && state.exitCode !== 0);
}
