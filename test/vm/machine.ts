/**
 * A virtual machine under qemu's interpreter (never KVM): one processor, 1 GiB, the guest's disks and a data disk over
 * the network block protocol. The host gives orders to the agent in it; each has a deadline, and so has the boot.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Channel } from "./channel.ts";
import type { Answer, Order } from "./guest/orders.ts";
import type { Kernel } from "./kernel.ts";

export type MachineOptions = {
  /** A folder of the machine's own, for sockets and the console's text. */
  readonly folder: string;
  readonly kernel: Kernel;
  readonly systemDisk: string;
  readonly projectDisk: string;
  /** Socket of the data disk's server. */
  readonly dataDisk: string;
  /** The one whose module is loaded. */
  readonly filesystem: string;
};

const bootDeadline = 1_800_000;

/** The data disk, as the guest names it. */
export const dataDevice = "/dev/vdc";

export class Machine implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #channel: Channel;
  readonly #console: string;

  /** Boots; resolves when the agent answers. */
  static async boot(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options, await Channel.listen(join(options.folder, "agent.sock")));
    try {
      await machine.#channel.ready(bootDeadline);
      return machine;
    } catch (error) {
      await machine.cut();
      throw new Error(`the machine did not boot:\n${machine.console().slice(-3000)}`, { cause: error });
    }
  }

  private constructor(options: MachineOptions, channel: Channel) {
    this.#channel = channel;
    this.#console = join(options.folder, "console.log");
    rmSync(this.#console, { force: true });
    const log = openSync(join(options.folder, "qemu.log"), "w");
    const args = qemuArguments(options, channel.path, this.#console);
    // It must not outlive the test, however that ends.
    const qemu = ["--pdeathsig", "KILL", "qemu-system-x86_64", ...args];
    this.#child = spawn("setpriv", qemu, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", resolve);
      this.#child.once("error", resolve);
    });
    void this.#ended.then(() => channel.end(new MachineEnded()));
  }

  /** What the guest's kernel and scripts printed. */
  console(): string {
    return existsSync(this.#console) ? readFileSync(this.#console, "utf8") : "";
  }

  order(order: Order, deadline?: number): Promise<Answer> {
    return this.#channel.order(order, deadline);
  }

  /** The power cut: what the guest had not sent to its disk is gone. */
  async cut(): Promise<void> {
    const { exitCode, signalCode, pid } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) {
      this.#child.kill("SIGKILL");
      await once(this.#child, "exit");
    }
    await this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cut();
  }
}

/** What an order to a machine without power gets. */
export class MachineEnded extends Error {
  override readonly name = "MachineEnded";
}

function qemuArguments(options: MachineOptions, agent: string, serial: string): string[] {
  const { kernel, systemDisk, projectDisk, dataDisk, filesystem } = options;
  const readOnly = [systemDisk, projectDisk].flatMap((file, index) => [
    ...["-drive", `file=${file},format=raw,if=none,id=fixed${index},readonly=on`],
    ...["-device", `virtio-blk-pci,drive=fixed${index}`],
  ]);
  // Nothing stands between the guest and the server: it gets each write when the guest makes it, and each flush.
  const nbd = `driver=nbd,node-name=data,server.type=unix,server.path=${dataDisk},cache.direct=on,cache.no-flush=off`;
  const blocks = "logical_block_size=4096,physical_block_size=4096";
  return [
    ...["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", `file:${serial}`],
    ...["-kernel", kernel.image, "-initrd", kernel.firstRoot],
    // On a busy host the interpreter's timer is late, and a kernel that checks it panics.
    ...["-append", `console=ttyS0 loglevel=4 panic=-1 mitigations=off no_timer_check filesystem=${filesystem}`],
    ...readOnly,
    ...["-blockdev", nbd, "-device", `virtio-blk-pci,drive=data,write-cache=on,${blocks}`],
    ...["-device", "virtio-serial-pci", "-chardev", `socket,id=agent,path=${agent}`],
    ...["-device", "virtserialport,chardev=agent,name=agent"],
  ];
}
