/** A bound on waiting for what is outside our process. */
import { EngineError } from "../base/errors.ts";

/** The promise's result, or deadline_exceeded after `ms`. What was asked for may still happen: the caller undoes it. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new EngineError("deadline_exceeded", `${what} took more than ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, overdue]);
  } finally {
    clearTimeout(timer);
  }
}
