/**
 * The far side of a pool, in a worker thread or a child process: loads task modules, runs their functions, passes bytes
 * and errors on. Several tasks may run at once while they wait for bytes or for the kernel.
 */
import { EngineError } from "../base/errors.ts";
import { Inlet, Outlet } from "./byte-channel.ts";
import type { TaskContext } from "./pool.ts";
import { type FromWorker, fromPlainError, type ToWorker, toPlainError } from "./worker-protocol.ts";

type Task = { readonly input: Inlet; readonly output: Outlet; readonly controller: AbortController };
type RunMessage = Extract<ToWorker, { type: "run" }>;

export type TaskServerOptions = {
  readonly post: (message: FromWorker, transfer: ArrayBuffer[]) => void;
  /** The controller of the task in this slot. */
  readonly controllerOf: (slot: number) => AbortController;
  /** Packets are transferred, and go back to be filled again. */
  readonly reuse: boolean;
};

export const canceled = (): EngineError => new EngineError("canceled", "the work was canceled");

export class TaskServer {
  readonly #options: TaskServerOptions;
  readonly #tasks = new Map<number, Task>();

  constructor(options: TaskServerOptions) {
    this.#options = options;
  }

  handle(message: ToWorker): void {
    if (message.type === "run") {
      void this.#run(message);
      return;
    }
    const task = this.#tasks.get(message.task);
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

  async #run(message: RunMessage): Promise<void> {
    const { task } = message;
    const { controllerOf, reuse } = this.#options;
    const post = (answer: FromWorker, transfer: ArrayBuffer[] = []): void => this.#options.post(answer, transfer);
    const output = new Outlet((chunk) => post({ type: "data", task, chunk }, [chunk.buffer]));
    const input = new Inlet(
      {
        onCredit: (bytes, packets) => post({ type: "credit", task, bytes, packets }, packets),
        onDiscard: () => post({ type: "discard", task }),
      },
      { reuse },
    );
    const controller = controllerOf(message.slot);
    this.#tasks.set(task, { input, output, controller });
    try {
      const context = { input, write: (chunk: Uint8Array) => output.write(chunk), signal: controller.signal };
      const result = await callTask(message, context);
      output.flush();
      post({ type: "done", task, result });
    } catch (error) {
      post({ type: "failed", task, error: toPlainError(error) });
    } finally {
      this.#tasks.delete(task);
    }
  }
}

async function callTask({ module, name, argument }: RunMessage, context: TaskContext): Promise<unknown> {
  const loaded: unknown = await import(module);
  const found: unknown = typeof loaded === "object" && loaded !== null ? Reflect.get(loaded, name) : undefined;
  if (typeof found !== "function") throw new EngineError("internal", `${module} exports no function ${name}`);
  context.signal.throwIfAborted();
  return await found(argument, context);
}
