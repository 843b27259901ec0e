/**
 * The reading end of one of conmon's pipes: lines of JSON, `{"data": n, "message": "..."}`.
 */
import type { Readable } from "node:stream";

export type ConmonMessage = { readonly data: number; readonly message: string };

const longest = 64 * 1024;

/** Messages in order; undefined once the other end is closed. */
export class MessagePipe {
  readonly #stream: Readable;
  readonly #lines: string[] = [];
  #partial = "";
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => this.#take(text));
    for (const event of ["end", "close", "error"]) stream.on(event, () => this.#end());
  }

  async next(): Promise<ConmonMessage | undefined> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return parse(line);
      if (this.#ended) return undefined;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  close(): void {
    this.#stream.destroy();
    this.#end();
  }

  #take(text: string): void {
    const lines = (this.#partial + text).split("\n");
    this.#partial = (lines.pop() ?? "").slice(0, longest);
    this.#lines.push(...lines.filter((line) => line !== ""));
    this.#wake?.();
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }
}

function parse(line: string): ConmonMessage {
  try {
    const { data, message } = JSON.parse(line) as { data?: unknown; message?: unknown };
    return { data: typeof data === "number" ? data : -1, message: typeof message === "string" ? message : "" };
  } catch {
    // conmon 2.1 does not escape every control character of what the runtime said.
    return { data: -1, message: line };
  }
}
