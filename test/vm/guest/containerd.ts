/**
 * A containerd of its own for a stock dockerd in the guest: the one that dockerd starts by itself has 15 s to answer, and
 * under qemu's interpreter needs more.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** How long it waits for its shims; its own choice is 2 s for a task's state. */
const patience = ["shim.cleanup", "shim.load", "shim.shutdown", "task.state"]
  .map((name) => `"io.containerd.timeout.${name}" = "120s"`)
  .join("\n");

export type Containerd = AsyncDisposable & { readonly address: string };

/** Starts it in `root` and waits until it listens. */
export async function startContainerd(root: string): Promise<Containerd> {
  mkdirSync(root, { recursive: true });
  const address = join(root, "containerd.sock");
  const settings = join(root, "config.toml");
  const text = [
    "version = 2",
    `root = "${root}/root"`,
    `state = "${root}/state"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
    `[grpc]\naddress = "${address}"`,
    `[timeouts]\n${patience}\n`,
  ];
  writeFileSync(settings, text.join("\n"));
  const log = openSync(join(root, "log"), "a");
  const child = spawn("containerd", ["--config", settings], { stdio: ["ignore", log, log] });
  const ended = once(child, "exit");
  for (let tries = 0; !existsSync(address); tries++) {
    if (child.exitCode !== null || tries > 3000) throw new Error(`containerd does not begin; see ${root}/log`);
    await sleep(200);
  }
  return {
    address,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
