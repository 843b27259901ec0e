/** How a process that serves is told to end. */
import type { Logger } from "pino";

/** Resolves at the first SIGTERM or SIGINT; the second ends the process at once. */
export function stopSignal(log: Logger): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (asked) process.exit(1);
      asked = true;
      log.info({ signal }, "stopping; a second signal ends at once");
      resolve();
    });
  }
  return promise;
}
