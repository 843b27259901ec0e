/** Waiting for what may never come. */

/** True when `work` settles within `milliseconds`; less than zero waits for ever. */
export async function within(milliseconds: number, work: Promise<unknown>): Promise<boolean> {
  if (milliseconds < 0) return work.then(() => true);
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), milliseconds);
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
