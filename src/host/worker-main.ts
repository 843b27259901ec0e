/**
 * The program of a pool's worker thread: loads task modules, runs their functions, passes bytes and errors on. Several
 * tasks may share a thread while they wait for bytes.
 */
import { parentPort, workerData } from "node:worker_threads";
import { EngineError } from "../base/errors.ts";
import { Inlet, Outlet } from "./byte-channel.ts";
import type { TaskContext } from "./pool.ts";
import { type FromWorker, fromPlainError, type ToWorker, toPlainError, type WorkerData } from "./worker-protocol.ts";

if (parentPort === null) throw new Error("worker-main runs as a worker thread of a pool");
const port = parentPort;
const { abortFlags } = workerData as WorkerData;

type Task = { readonly input: Inlet; readonly output: Outlet; readonly controller: AbortController };
const tasks = new Map<number, Task>();

const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);
const canceled = (): EngineError => new EngineError("canceled", "the work was canceled");

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

type RunMessage = Extract<ToWorker, { type: "run" }>;

async function callTask({ module, name, argument }: RunMessage, context: TaskContext): Promise<unknown> {
  const loaded: unknown = await import(module);
  const found: unknown = typeof loaded === "object" && loaded !== null ? Reflect.get(loaded, name) : undefined;
  if (typeof found !== "function") throw new EngineError("internal", `${module} exports no function ${name}`);
  context.signal.throwIfAborted();
  return await found(argument, context);
}

async function runTask(message: RunMessage): Promise<void> {
  const { task } = message;
  const output = new Outlet((chunk) => post({ type: "data", task, chunk }, [chunk.buffer]));
  const input = new Inlet(
    {
      onCredit: (bytes, packets) => post({ type: "credit", task, bytes, packets }, packets),
      onDiscard: () => post({ type: "discard", task }),
    },
    { reuse: true },
  );
  const controller = liveController(message.slot);
  tasks.set(task, { input, output, controller });
  try {
    const context = { input, write: (chunk: Uint8Array) => output.write(chunk), signal: controller.signal };
    const result = await callTask(message, context);
    output.flush();
    post({ type: "done", task, result });
  } catch (error) {
    post({ type: "failed", task, error: toPlainError(error) });
  } finally {
    tasks.delete(task);
  }
}

function handle(message: ToWorker): void {
  if (message.type === "run") {
    void runTask(message);
    return;
  }
  const task = tasks.get(message.task);
  if (task === undefined) return;
  if (message.type === "data") task.input.push(message.chunk);
  else if (message.type === "credit") task.output.credit(message.bytes, message.packets);
  else if (message.type === "discard") task.output.discard();
  else if (message.type === "end")
    task.input.end(message.error === undefined ? undefined : { error: fromPlainError(message.error) });
  else {
    task.controller.abort(canceled());
    task.input.fail(task.controller.signal.reason);
    task.output.fail(task.controller.signal.reason);
  }
}

port.on("message", handle);
