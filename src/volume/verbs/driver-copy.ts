/**
 * Copies that a driver makes for a verb: the client is told how far they are and may end them, and the volume's containers stand
 * still from when the driver asks for it, with the volume's lock held, so that no others begin.
 */
import type { CopyWork } from "../../volume-driver/driver.ts";
import type { VolumeWork } from "../verbs.ts";
import type { VerbContext } from "./context.ts";

export type DriverCopy = {
  /** Of the volume that is copied. */
  readonly name: string;
  /** What the client is told that is being done. */
  readonly step: string;
  /** It is copied as it is now: others may write to it. */
  readonly live: boolean;
  readonly work: VolumeWork;
};

export async function copyByDriver<T>(
  context: VerbContext,
  { name, step, live, work }: DriverCopy,
  copy: (work: CopyWork) => Promise<T>,
): Promise<T> {
  const { signal, progress, pause } = work;
  await using stack = new AsyncDisposableStack();
  const still = async (): Promise<void> => {
    stack.use(await context.users.hold(name, { freeze: true }));
    stack.use(await context.locks.take(name));
  };
  return await copy({
    ...(signal === undefined ? {} : { signal }),
    ...(progress === undefined ? {} : { progress: (at) => progress({ step, ...at }) }),
    ...(live && pause !== false ? { still } : {}),
  });
}
