/**
 * Drivers as the store sees them: every call about a volume that may hang has a deadline and goes through the volume's
 * breaker, and what was mounted has answered before anybody uses it. Volumes of this machine's own pass as they are.
 */
import { randomBytes } from "node:crypto";
import { EngineError, isError } from "../base/errors.ts";
import type { Remote } from "../host/remote.ts";
import type { VolumeDriver, VolumeSpec } from "../volume-driver/driver.ts";
import { isRemote } from "../volume-driver/remote.ts";
import type { Breakers } from "./breaker.ts";

export type GuardOptions = {
  readonly remote: Remote;
  readonly breakers: Breakers;
};

export type GuardedDriver = VolumeDriver & {
  /** As `mount`, for a use that outlived the engine: who serves it is not asked, and not waited for. */
  readonly retake: (spec: VolumeSpec, use: string) => Promise<string>;
  /** Runs what looks into a volume that may hang, through its breaker. */
  readonly asking: <T>(spec: VolumeSpec, work: () => Promise<T>) => Promise<T>;
};

/** Milliseconds for a use that is taken up again while the engine opens. */
const retakeDeadline = 2000;
/** Milliseconds for a mount and its end; drivers have deadlines of their own, which are shorter and say what is wrong. */
const mountDeadline = 150_000;

export const nameOf = (driver: Pick<VolumeDriver, "name">, { name }: Pick<VolumeSpec, "name">): string =>
  `volume ${name} of driver ${driver.name}`;

/** The same driver, guarded. */
export function guarded(driver: VolumeDriver, options: GuardOptions): GuardedDriver {
  const guard = new Guard(driver, options);
  const own: Partial<GuardedDriver> = {
    mount: (spec, use) => guard.mount(spec, use),
    retake: (spec, use) => guard.retake(spec, use),
    asking: (spec, work) => guard.asking(spec, work),
    unmount: (spec, use) => guard.unmount(spec, use),
    usage: (spec, signal) => guard.usage(spec, signal),
    remove: (spec) => guard.remove(spec),
  };
  return new Proxy(driver as GuardedDriver, {
    get: (target, key) => {
      if (Object.hasOwn(own, key)) return Reflect.get(own, key);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

class Guard {
  readonly #driver: VolumeDriver;
  readonly #options: GuardOptions;

  constructor(driver: VolumeDriver, options: GuardOptions) {
    this.#driver = driver;
    this.#options = options;
  }

  async mount(spec: VolumeSpec, use: string): Promise<string> {
    const driver = this.#driver;
    if (!isRemote(driver, spec)) return driver.mount(spec, use);
    const { remote } = this.#options;
    return this.asking(spec, async () => {
      const mounting = driver.mount(spec, use);
      const path = await this.#bounded(spec, mounting, mountDeadline).catch((error: unknown) => {
        // What comes too late is given back.
        void mounting.then(() => driver.unmount(spec, use)).catch(() => undefined);
        throw error;
      });
      try {
        await remote.calls.look(path, remote.patience(nameOf(driver, spec)));
      } catch (error) {
        await driver.unmount(spec, use);
        throw error;
      }
      return path;
    });
  }

  async retake(spec: VolumeSpec, use: string): Promise<string> {
    const mounting = this.#driver.mount(spec, use);
    return isRemote(this.#driver, spec) ? this.#bounded(spec, mounting, retakeDeadline) : mounting;
  }

  /** The use is over, whatever the server says. */
  async unmount(spec: VolumeSpec, use: string): Promise<void> {
    if (!isRemote(this.#driver, spec)) return this.#driver.unmount(spec, use);
    await this.#bounded(spec, this.#driver.unmount(spec, use), mountDeadline);
  }

  async usage(spec: VolumeSpec, signal?: AbortSignal): Promise<number | undefined> {
    if (!isRemote(this.#driver, spec)) return this.#driver.usage(spec, signal);
    return this.asking(spec, () => this.#driver.usage(spec, signal));
  }

  async remove(spec: VolumeSpec): Promise<void> {
    if (isRemote(this.#driver, spec)) await this.#options.breakers.close(spec.name);
    await this.#driver.remove(spec);
  }

  /** Runs what waits for the server; when that is too long the breaker opens. */
  async asking<T>(spec: VolumeSpec, work: () => Promise<T>): Promise<T> {
    this.#options.breakers.check(spec.name);
    try {
      return await work();
    } catch (error) {
      if (isError(error, "deadline_exceeded")) this.#trip(spec);
      throw error;
    }
  }

  #trip(spec: VolumeSpec): void {
    const broken = { volume: spec.name, driver: this.#driver.name };
    this.#options.breakers.trip(broken, (signal) => this.#probe(spec, signal));
  }

  /** Somebody else's volumes are not mounted only to see whether they would be. */
  async #probe(spec: VolumeSpec, signal: AbortSignal): Promise<void> {
    const driver = this.#driver;
    const { calls, deadline } = this.#options.remote;
    const patience = { what: nameOf(driver, spec), deadline };
    if (driver.traits.foreign === true) {
      const { mountpoint } = await driver.describe(spec, AbortSignal.any([signal, AbortSignal.timeout(deadline)]));
      if (mountpoint !== undefined && mountpoint !== "") await calls.look(mountpoint, patience);
      return;
    }
    const use = `probe-${randomBytes(8).toString("hex")}`;
    const path = await driver.mount(spec, use);
    try {
      await calls.look(path, patience);
    } finally {
      await driver.unmount(spec, use);
    }
  }

  async #bounded<T>(spec: VolumeSpec, work: Promise<T>, deadline: number): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const words = `${nameOf(this.#driver, spec)} did not answer within ${deadline / 1000} s`;
      late.reject(new EngineError("deadline_exceeded", words));
    }, deadline);
    work.catch(() => undefined);
    try {
      return await Promise.race([work, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}
