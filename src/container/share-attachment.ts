/**
 * One attachment for several clients: each gets all output, through a queue of its own that is bounded. A client that is slow
 * slows the container down, as conmon itself would; one that takes nothing for a while is cut off, so that it cannot stop it.
 */
import { EngineError } from "../base/errors.ts";
import type { Attachment, OutputChunk } from "../runtime/runtime.ts";
import { within } from "./deadline.ts";

/** Bytes that wait for one client. */
const queueLimit = 1024 * 1024;
/** Milliseconds that a client may take nothing while its queue is full. */
const stallLimit = 30_000;

class Queue {
  readonly #chunks: OutputChunk[] = [];
  #bytes = 0;
  #state: "open" | "ended" | "left" | "overflow" = "open";
  #changed = Promise.withResolvers<void>();

  push(chunk: OutputChunk): void {
    if (this.#state !== "open") return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.data.length;
    this.#tell();
  }

  /** Resolves when there is room, or nobody reads any more. */
  async room(): Promise<void> {
    while (this.#state === "open" && this.#bytes > queueLimit) await this.#changed.promise;
  }

  close(state: "ended" | "left" | "overflow"): void {
    if (this.#state !== "open") return;
    this.#state = state;
    if (state === "left") this.#chunks.length = 0;
    this.#tell();
  }

  async *read(): AsyncGenerator<OutputChunk> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#bytes -= chunk.data.length;
        this.#tell();
        yield chunk;
      } else if (this.#state === "overflow") throw new EngineError("canceled", "overflow: the output was not read");
      else if (this.#state !== "open") return;
      else await this.#changed.promise;
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** `count` holds on `real`; it is given back when the last of them is, or when its output has ended. */
export function shareAttachment(real: Attachment, count: number): readonly Attachment[] {
  const queues = Array.from({ length: count }, () => new Queue());
  let holders = count;
  void pump(real, queues);
  return queues.map((queue) => {
    let held = true;
    return {
      output: queue.read(),
      write: real.write,
      closeStdin: real.closeStdin,
      [Symbol.asyncDispose]: async () => {
        if (!held) return;
        held = false;
        queue.close("left");
        holders--;
        if (holders === 0) await real[Symbol.asyncDispose]();
      },
    };
  });
}

async function pump(real: Attachment, queues: readonly Queue[]): Promise<void> {
  try {
    for await (const chunk of real.output) {
      for (const queue of queues) queue.push(chunk);
      await Promise.all(queues.map(makeRoom));
    }
    for (const queue of queues) queue.close("ended");
  } catch {
    for (const queue of queues) queue.close("overflow");
  }
}

async function makeRoom(queue: Queue): Promise<void> {
  if (!(await within(stallLimit, queue.room()))) queue.close("overflow");
}
