/** The host's end of the line to an agent: listens for it on a unix socket, gives orders, waits for each answer. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Answer, Order } from "./guest/orders.ts";

const orderDeadline = 1_200_000;

type Waiting = { readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void };

export class Channel {
  readonly path: string;
  readonly #server: Server;
  readonly #waiting = new Map<number, Waiting>();
  #socket: Socket | undefined;
  #ended: Error | undefined;
  #next = 1;

  static async listen(path: string): Promise<Channel> {
    rmSync(path, { force: true });
    const server = createServer();
    server.listen(path);
    await once(server, "listening");
    return new Channel(server, path);
  }

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.path = path;
    server.on("connection", (socket) => this.#talk(socket));
  }

  /** Resolves when the agent said that it is there. */
  async ready(deadline: number): Promise<void> {
    await this.#settled(0, deadline, "its start");
  }

  order(order: Order, deadline = orderDeadline): Promise<Answer> {
    const id = this.#next++;
    const settled = this.#settled(id, deadline, JSON.stringify(order).slice(0, 200));
    this.#socket?.write(`${JSON.stringify({ id, order })}\n`);
    return settled;
  }

  /** No answer comes any more: who waits is told why. */
  end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#socket?.destroy();
    this.#server.close();
  }

  #talk(socket: Socket): void {
    this.#socket = socket;
    socket.on("error", () => socket.destroy());
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => {
      const { id, answer } = JSON.parse(line) as { readonly id: number; readonly answer: Answer };
      this.#waiting.get(id)?.resolve(answer);
    });
    lines.on("error", () => undefined);
  }

  async #settled(id: number, deadline: number, what: string): Promise<Answer> {
    if (this.#ended !== undefined) throw this.#ended;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Answer>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        timer = setTimeout(() => reject(new Error(`the agent had ${deadline} ms for ${what}`)), deadline);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }
}
