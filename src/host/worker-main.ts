/** The program of a pool's worker thread: a task server whose tasks see an abort inside synchronous loops, too. */
import { parentPort, workerData } from "node:worker_threads";
import { canceled, TaskServer } from "./task-server.ts";
import type { ToWorker, WorkerData } from "./worker-protocol.ts";

if (parentPort === null) throw new Error("worker-main runs as a worker thread of a pool");
const port = parentPort;
const { abortFlags } = workerData as WorkerData;

/**
 * The controller of a task whose signal is also true inside a synchronous loop, where no message can arrive: the flag
 * is shared memory that the pool sets.
 */
function liveController(slot: number): AbortController {
  const controller = new AbortController();
  const { signal } = controller;
  const nativeAborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, "aborted")?.get;
  const aborted = (): boolean => {
    if (Atomics.load(abortFlags, slot) === 1) controller.abort(canceled());
    return nativeAborted?.call(signal) === true;
  };
  const throwIfAborted = (): void => {
    if (aborted()) throw signal.reason;
  };
  Object.defineProperties(signal, { aborted: { get: aborted }, throwIfAborted: { value: throwIfAborted } });
  return controller;
}

const server = new TaskServer({
  post: (message, transfer) => port.postMessage(message, transfer),
  controllerOf: liveController,
  reuse: true,
});
port.on("message", (message: ToWorker) => server.handle(message));
