/**
 * Disks of power cuts that did not happen, but could have: the log of a run, cut before any of its flushes. They are
 * mounted on this machine (its kernel replays the journal), by the same agent as in the guest in a mount namespace of its
 * own, because that is ten times as fast as in the guest.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, ftruncateSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Channel } from "./channel.ts";
import { type Blocks, blockSize } from "./disk-log.ts";
import type { Answer, Order } from "./guest/orders.ts";

const agent = new URL("./guest/agent.ts", import.meta.url).pathname;
const startDeadline = 600_000;

export class ReplayAgent implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #channel: Channel;
  readonly root: string;

  static async start(root: string): Promise<ReplayAgent> {
    for (const name of ["data", "run"]) mkdirSync(join(root, name), { recursive: true });
    const started = new ReplayAgent(root, await Channel.listen(join(root, "agent.sock")));
    await started.#channel.ready(startDeadline);
    return started;
  }

  private constructor(root: string, channel: Channel) {
    this.root = root;
    this.#channel = channel;
    const node = [process.execPath, "--disable-warning=ExperimentalWarning", agent, channel.path, root];
    this.#child = spawn("unshare", ["--mount", "--propagation", "private", ...node], { stdio: "inherit" });
    this.#child.once("exit", () => channel.end(new Error("the agent of replays ended")));
  }

  order(order: Order, deadline?: number): Promise<Answer> {
    return this.#channel.order(order, deadline);
  }

  /** Its mounts, and the loop device of the disk, go with its namespace. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "exit");
  }
}

/** Writes a disk to a file, neighbouring blocks at once. */
export function writeDisk(blocks: Blocks, size: number, path: string): void {
  const file = openSync(path, "w");
  try {
    ftruncateSync(file, size);
    const numbers = [...blocks.keys()].sort((a, b) => a - b);
    for (let at = 0; at < numbers.length; ) {
      const first = numbers[at] ?? 0;
      const run: Uint8Array[] = [];
      while (numbers[at] === first + run.length && run.length < 1024)
        run.push(blocks.get(numbers[at++] ?? 0) ?? new Uint8Array(blockSize));
      writeSync(file, Buffer.concat(run), 0, run.length * blockSize, first * blockSize);
    }
  } finally {
    closeSync(file);
  }
}
