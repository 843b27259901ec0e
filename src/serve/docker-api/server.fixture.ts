/**
 * A server over services of a test's own: what a test does not give fails when it is called. With it an echo container,
 * whose attachment gives back what it is written, through a bounded buffer, until its stdin ends.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { type IncomingHttpHeaders, request } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../../base/errors.ts";
import { EventBus } from "../../base/events.ts";
import type { Container } from "../../container/container.ts";
import type { Attachment, OutputChunk } from "../../runtime/runtime.ts";
import { never } from "./human-duration.ts";
import { createDockerApi, type DockerApiOptions } from "./server.ts";
import type { DockerApiServices } from "./services.ts";

export type Given = { readonly [Part in keyof DockerApiServices]?: Partial<DockerApiServices[Part]> };

const parts = [
  "containers",
  "images",
  "imageViews",
  "layers",
  "volumes",
  "volumeVerbs",
  "networks",
  "transfer",
  "builder",
  "facts",
] as const satisfies readonly (keyof DockerApiServices)[];

function servicesOf(given: Given): DockerApiServices {
  const services = parts.map((part) => {
    const own: object = given[part] ?? {};
    const proxy = new Proxy(own, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (member !== undefined) return member;
        return () => {
          throw new Error(`${part}.${String(name)} is not part of this test`);
        };
      },
    });
    return [part, proxy];
  });
  return { events: given.events ?? new EventBus(), ...Object.fromEntries(services) };
}

export type TestServer = AsyncDisposable & {
  readonly socketPath: string;
  readonly call: (method: string, path: string, options?: CallOptions) => Promise<Answer>;
  /** A raw connection that has sent `text`; it may be half-closed. */
  readonly raw: (...parts: readonly (string | Uint8Array)[]) => Socket;
};

export type CallOptions = { readonly headers?: Readonly<Record<string, string>>; readonly body?: string | Uint8Array };
export type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly text: string };

export async function startServer(given: Given, options: DockerApiOptions = {}): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), "api-"));
  const socketPath = join(folder, "api.sock");
  const api = await createDockerApi(servicesOf(given), options);
  await api.listen({ kind: "unix", path: socketPath });
  return {
    socketPath,
    call: (method, path, more = {}) => call(socketPath, method, path, more),
    raw: (...sent) => {
      const connection = connect({ path: socketPath, allowHalfOpen: true });
      for (const part of sent) connection.write(part);
      return connection;
    },
    [Symbol.asyncDispose]: async () => {
      await api[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function call(socketPath: string, method: string, path: string, { headers, body }: CallOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, headers: { ...headers }, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(chunks).toString(),
        }),
      );
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** A running container without a terminal, stdin open for one client. */
export function runningContainer(changes: Partial<Container> = {}): Container {
  return {
    id: "c".repeat(64),
    name: "web",
    created: "2026-01-02T03:04:05.000000000Z",
    imageId: undefined,
    image: "busybox",
    path: "sh",
    args: ["-c", "echo hi"],
    config: { OpenStdin: true, StdinOnce: true, Labels: { a: "b" } },
    hostConfig: { NetworkMode: "host" },
    mounts: [],
    networks: {},
    restartCount: 0,
    state: {
      status: "running",
      pid: 42,
      exitCode: 0,
      error: "",
      oomKilled: false,
      startedAt: "2026-01-02T03:04:06.000000000Z",
      finishedAt: never,
    },
    logPath: "",
    hostnamePath: "",
    hostsPath: "",
    resolvConfPath: "",
    ...changes,
  };
}

/** Gives back what it is written on stdout; ends when stdin does, after "bye" on stderr. Holds at most `limit` bytes. */
export class Echo implements Attachment {
  disposed = false;
  written = 0;
  stdinEnded = false;
  readonly #limit: number;
  #waiting: OutputChunk[] = [];
  #size = 0;
  #wake = (): void => undefined;

  constructor(limit = Number.POSITIVE_INFINITY) {
    this.#limit = limit;
  }

  get output(): AsyncIterable<OutputChunk> {
    return this.#read();
  }

  async *#read(): AsyncGenerator<OutputChunk> {
    for (;;) {
      const chunk = this.#waiting.shift();
      if (chunk !== undefined) {
        this.#size -= chunk.data.length;
        yield chunk;
      } else if (this.stdinEnded || this.disposed) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  say(stream: OutputChunk["stream"], data: Uint8Array): void {
    this.#waiting.push({ stream, data });
    this.#size += data.length;
    if (this.#size > this.#limit) throw new EngineError("canceled", "overflow");
    this.#wake();
  }

  write = async (data: Uint8Array): Promise<void> => {
    this.written += data.length;
    this.say("stdout", data);
  };

  closeStdin = async (): Promise<void> => {
    this.say("stderr", Buffer.from("bye"));
    this.stdinEnded = true;
    this.#wake();
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
    this.#wake();
  }
}
