/**
 * A client's hold on the stdio of a container that may not run yet: it can be handed out at once, its output begins when
 * the container starts, and what the client writes before waits. `docker run` attaches before it starts, so that not a byte is lost.
 */
import type { Attachment, OutputChunk } from "../runtime/runtime.ts";

export type Streams = { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };

/** What a container that never started had to say. */
const silence: Attachment = {
  output: (async function* () {})(),
  write: async () => undefined,
  closeStdin: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
};

export class LateAttachment implements Attachment {
  readonly output: AsyncIterable<OutputChunk>;
  readonly #streams: Streams;
  readonly #real = Promise.withResolvers<Attachment>();
  #left = false;
  #leave: () => void = () => undefined;

  constructor(streams: Streams) {
    this.#streams = streams;
    this.output = this.#read();
    this.#real.promise.catch(() => undefined);
  }

  /** What to do when the client goes. */
  onLeave(leave: () => void): void {
    this.#leave = leave;
  }

  /** The container's process exists: from here on this is a live attachment. A client that left needs none. */
  async connect(attach: () => Promise<Attachment>): Promise<void> {
    if (this.#left) return;
    const real = await attach();
    this.#real.resolve(real);
    if (this.#left) await real[Symbol.asyncDispose]();
  }

  /** The container did not start, or is gone: the output ends. */
  end(): void {
    this.#real.resolve(silence);
  }

  readonly write = async (data: Uint8Array): Promise<void> => {
    if (this.#streams.stdin) await (await this.#real.promise).write(data);
  };

  readonly closeStdin = async (): Promise<void> => {
    if (this.#streams.stdin) await (await this.#real.promise).closeStdin();
  };

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    this.#leave();
    this.#real.promise.then(
      (real) => real[Symbol.asyncDispose](),
      () => undefined,
    );
    this.#real.resolve(silence);
  }

  async *#read(): AsyncGenerator<OutputChunk> {
    const real = await this.#real.promise;
    for await (const chunk of real.output) if (this.#streams[chunk.stream]) yield chunk;
    // The process has ended: there is nothing left to hold on to.
    await real[Symbol.asyncDispose]();
  }
}
