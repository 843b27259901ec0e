/**
 * A FUSE server that is there and never answers: it takes every request, which makes whoever waits for it unkillable, and
 * says nothing but that the mount is live. A program of its own; {@link startHungFuse} starts it and tells it what to do.
 *
 * It may be told to answer from some moment on (`wake`): then its filesystem is one empty directory.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readdirSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { mount } from "./mount-calls.ts";

export type HungFuse = AsyncDisposable & {
  readonly pid: number;
  /** Mounts one more filesystem that hangs. */
  readonly mount: (target: string) => Promise<void>;
  /** Answers everything from now on, what waits already too. */
  readonly wake: () => Promise<void>;
  readonly sleep: () => Promise<void>;
  /** Answers so many requests, and none after. */
  readonly answer: (count: number) => Promise<void>;
  /** From now on mounts one on every target that a file in `folder` names: so a program of another process asks. */
  readonly serveAsks: (folder: string) => Promise<void>;
};

/** Its mounts hang until it ends; then whoever waits gets an error. */
export async function startHungFuse(): Promise<HungFuse> {
  const child = fork(fileURLToPath(import.meta.url), ["serve"], {
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const ask = async (message: object): Promise<void> => {
    child.send(message);
    const [answer] = await once(child, "message");
    if (answer !== "done") throw new Error(`the FUSE server says ${answer}`);
  };
  return {
    pid: child.pid ?? -1,
    mount: (target) => ask({ mount: target }),
    wake: () => ask({ awake: true }),
    sleep: () => ask({ awake: false }),
    answer: (count) => ask({ awake: true, count }),
    serveAsks: (folder) => ask({ folder }),
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

type Message = { readonly mount?: string; readonly awake?: boolean; readonly count?: number; readonly folder?: string };

const INIT = 26;
const headerSize = 16;

/** fuse_init_out of protocol 7.31, without any wish. */
function initAnswer(): Buffer {
  const out = Buffer.alloc(64);
  out.writeUInt32LE(7, 0);
  out.writeUInt32LE(31, 4);
  out.writeUInt32LE(4096, 20);
  return out;
}

/** fuse_attr_out of the root directory. */
function attributes(): Buffer {
  const out = Buffer.alloc(104);
  out.writeBigUInt64LE(1n, 16);
  out.writeUInt32LE(0o040755, 16 + 60);
  out.writeUInt32LE(2, 16 + 64);
  return out;
}

/** Operation -> its answer, for an empty directory. Others do not exist there (ENOSYS); FORGET and its like have no answer. */
const answers: ReadonlyMap<number, () => Buffer> = new Map([
  [3, attributes],
  [17, () => Buffer.alloc(80)],
  [25, () => Buffer.alloc(0)],
  [27, () => Buffer.alloc(16)],
  [28, () => Buffer.alloc(0)],
  [29, () => Buffer.alloc(0)],
]);
const silent: ReadonlySet<number> = new Set([2, 36, 42]);

class Server {
  readonly #mounts = new Map<number, Buffer[]>();
  /** Requests that will be answered. */
  #answers = 0;
  #folder: string | undefined;

  handle(message: Message): void {
    if (message.mount !== undefined) this.#mount(message.mount);
    else if (message.folder !== undefined) this.#folder = message.folder;
    else this.#answers = message.awake === true ? (message.count ?? Number.POSITIVE_INFINITY) : 0;
  }

  #serveAsks(folder: string): void {
    for (const name of readdirSync(folder).filter((found) => found.endsWith(".ask"))) {
      const path = join(folder, name);
      const target = readFileSync(path, "utf8").trim();
      rmSync(path);
      this.#mount(target);
    }
  }

  #mount(target: string): void {
    const fd = openSync("/dev/fuse", constants.O_RDWR | constants.O_NONBLOCK);
    const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other`;
    mount({ source: "hung", target, type: "fuse.hung", flags: 0, data });
    this.#mounts.set(fd, []);
  }

  turn(): void {
    if (this.#folder !== undefined) this.#serveAsks(this.#folder);
    for (const [fd, waiting] of this.#mounts) {
      for (let request = this.#read(fd); request !== undefined; request = this.#read(fd)) {
        if (request.readUInt32LE(4) === INIT) this.#answer(fd, request, { data: initAnswer() });
        else if (!silent.has(request.readUInt32LE(4))) waiting.push(request);
      }
      for (; this.#answers > 0 && waiting.length > 0; this.#answers--) this.#reply(fd, waiting.shift());
    }
  }

  #reply(fd: number, request: Buffer | undefined): void {
    if (request === undefined) return;
    const answer = answers.get(request.readUInt32LE(4));
    if (answer === undefined) this.#answer(fd, request, { error: request.readUInt32LE(4) === 1 ? 2 : 38 });
    else this.#answer(fd, request, { data: answer() });
  }

  #read(fd: number): Buffer | undefined {
    const buffer = Buffer.alloc(1024 * 1024 + 4096);
    try {
      return buffer.subarray(0, readSync(fd, buffer));
    } catch (error) {
      if ((error as { code?: string }).code === "ENODEV") {
        this.#mounts.delete(fd);
        closeSync(fd);
      }
      return undefined;
    }
  }

  #answer(fd: number, request: Buffer, { data = Buffer.alloc(0), error = 0 }: { data?: Buffer; error?: number }): void {
    const header = Buffer.alloc(headerSize);
    header.writeUInt32LE(headerSize + data.length, 0);
    header.writeInt32LE(-error, 4);
    header.writeBigUInt64LE(request.readBigUInt64LE(8), 8);
    try {
      writeSync(fd, Buffer.concat([header, data]));
    } catch {
      // Whoever asked has gone.
    }
  }
}

if (process.argv[2] === "serve" && process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = new Server();
  process.on("message", (message: Message) => {
    try {
      server.handle(message);
      process.send?.("done");
    } catch (error) {
      process.send?.(String(error));
    }
  });
  process.on("disconnect", () => process.exit(0));
  setInterval(() => server.turn(), 10);
}
