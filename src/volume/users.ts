/**
 * The containers that use volumes, as the verbs of volumes need them. `container/` implements it: the volume store knows
 * containers by id only.
 */
import type { Statement } from "../metadata/database.ts";

export type VolumeUser = {
  readonly id: string;
  readonly name: string;
  /** Docker's word: created, running, paused, restarting, exited... */
  readonly status: string;
  /** Where it has the volume. */
  readonly mounts: readonly { readonly destination: string; readonly readWrite: boolean }[];
  /** It goes when it stops (`--rm`). */
  readonly goesWithItsEnd: boolean;
};

export type Held = AsyncDisposable & {
  /** Ids of those that run; frozen when that was asked for. */
  readonly running: readonly string[];
  /** The volume has another driver: rows for the transaction that says so, and what to call when it is written. */
  moved(to: { readonly driver: string; readonly mountpoint: string }): {
    readonly statements: readonly Statement[];
    readonly written: () => void;
  };
};

export interface VolumeUsers {
  /** Every container that names the volume, by name. */
  of(volume: string): readonly VolumeUser[];
  /**
   * Until it is disposed none of them is started, stopped or removed; with `freeze` those that run stand still, but for those that
   * a person paused, and go on afterwards, also when this engine is killed meanwhile. Take it before the volume's lock.
   */
  hold(volume: string, options: { readonly freeze: boolean }): Promise<Held>;
  /** As a person would: with the container's own signal and time. */
  stop(ids: readonly string[]): Promise<void>;
  /** Those that are still there. The first failure is thrown when all were tried. */
  start(ids: readonly string[]): Promise<void>;
}

/** Where there are no containers. */
export const noUsers: VolumeUsers = {
  of: () => [],
  hold: async () => ({
    running: [],
    moved: () => ({ statements: [], written: () => undefined }),
    [Symbol.asyncDispose]: async () => undefined,
  }),
  stop: async () => undefined,
  start: async () => undefined,
};
