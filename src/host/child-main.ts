/**
 * The program of a child process that runs tasks: a task server over the channel to its parent. It ends with its parent,
 * also when that is killed, and also while a task waits for a server that never answers (then as soon as the kernel lets go).
 */
import { constants } from "node:os";
import { check, native } from "./libc.ts";
import { TaskServer } from "./task-server.ts";
import type { ToWorker } from "./worker-protocol.ts";

const PR_SET_PDEATHSIG = 1;
const prctl = native("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)");

const parent = Number(process.argv[2]);
check(prctl(PR_SET_PDEATHSIG, constants.signals.SIGKILL, 0, 0, 0), "prctl");
if (process.ppid !== parent) process.exit(0);
process.on("disconnect", () => process.exit(0));
// What a person sends to the daemon's group is the daemon's to handle.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

const server = new TaskServer({
  post: (message) => process.send?.(message),
  controllerOf: () => new AbortController(),
  reuse: false,
});
process.on("message", (message: ToWorker) => server.handle(message));
process.send?.({ type: "ready" });
