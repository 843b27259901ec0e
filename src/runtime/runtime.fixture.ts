/**
 * A real runtime for tests: a busybox root, an exec root of its own, and a check that nothing is left behind.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRuntime } from "./open-runtime.ts";
import type { Attachment, Runtime, StartOptions } from "./runtime.ts";
import { buildSpec, type SpecInput } from "./spec.ts";

const busybox = ["/usr/bin/busybox", "/bin/busybox"].find(existsSync);

/** Why the suites cannot run here; undefined when they can. */
export const skipReason: string | undefined =
  process.getuid?.() !== 0
    ? "needs root"
    : busybox === undefined
      ? "needs busybox-static"
      : ["runc", "conmon"].some((name) => !["/usr/sbin", "/usr/bin"].some((path) => existsSync(join(path, name))))
        ? "needs runc and conmon"
        : undefined;

const applets =
  "sh true false cat echo stty ps sleep id grep kill head wc ls mount ip date dd env hostname touch mkdir readlink test tr";

export type Container = {
  readonly id: string;
  readonly log: string;
  readonly pid: number;
  readonly attach: () => Promise<Attachment>;
};

type Change = Partial<SpecInput> & Partial<Pick<StartOptions, "stdin" | "keepStdin" | "logSizeMax">>;

export class RuntimeFixture implements AsyncDisposable {
  readonly directory: string;
  readonly execRoot: string;
  readonly rootfs: string;
  runtime: Runtime;
  readonly #ids: string[] = [];

  private constructor(directory: string, runtime: Runtime) {
    this.directory = directory;
    this.execRoot = join(directory, "exec");
    this.rootfs = join(directory, "rootfs");
    this.runtime = runtime;
  }

  static async open(options: { readonly stallLimit?: number } = {}): Promise<RuntimeFixture> {
    const directory = await mkdtemp(join(tmpdir(), "strata-runtime-"));
    await makeRoot(join(directory, "rootfs"));
    return new RuntimeFixture(directory, await openRuntime({ execRoot: join(directory, "exec"), ...options }));
  }

  /** As if the daemon had been restarted. */
  async restart(): Promise<void> {
    await this.runtime[Symbol.asyncDispose]();
    this.runtime = await openRuntime({ execRoot: this.execRoot });
  }

  /** A container that waits to be started. */
  async create(args: readonly string[], change: Change = {}): Promise<Container> {
    const id = `test-${process.pid}-${this.#ids.length}-${Date.now()}`;
    this.#ids.push(id);
    const { stdin = false, keepStdin = false, logSizeMax, ...input } = change;
    const tty = input.tty ?? false;
    const spec = await buildSpec({ ...this.input(id, args), ...input });
    const logPath = join(this.directory, `${id}.log`);
    const made = await this.runtime.create({ id, spec, tty, stdin, keepStdin, logPath, logSizeMax });
    return { id, log: logPath, ...made };
  }

  input(id: string, args: readonly string[]): SpecInput {
    return {
      id,
      rootfs: this.rootfs,
      hostname: "box",
      args,
      env: ["PATH=/bin"],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
      tty: false,
      mounts: [],
      network: "host",
    };
  }

  /** Runs a command to its end and gives what it wrote, by stream, and its exit code. */
  async run(args: readonly string[], change: Change = {}): Promise<{ code: number; stdout: string; stderr: string }> {
    const container = await this.create(args, change);
    await using attachment = await container.attach();
    const output = collect(attachment);
    await this.runtime.start(container.id);
    const { code } = await this.runtime.exited(container.id);
    const text = await output;
    await this.runtime.remove(container.id);
    return { code, ...text };
  }

  /** Removes what is left, and asserts that nothing stays: no process, cgroup, file. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of new Set([...this.#ids, ...(await this.runtime.list())])) await this.runtime.remove(id);
    assert.deepEqual(await this.runtime.list(), []);
    await this.runtime[Symbol.asyncDispose]();
    for (const name of ["containers", "exits", "state"])
      assert.deepEqual(readdirSync(join(this.execRoot, name)), [], `${name} is empty`);
    assert.deepEqual(this.#ids.flatMap(cgroupsOf), [], "no cgroup is left");
    assert.deepEqual(processesNaming(this.execRoot), [], "no process is left");
    assert.deepEqual(zombies(), [], "no zombie is left");
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function makeRoot(root: string): Promise<void> {
  for (const name of ["bin", "etc", "proc", "sys", "dev", "tmp"]) await mkdir(join(root, name), { recursive: true });
  await copyFile(busybox ?? "", join(root, "bin/busybox"));
  for (const name of applets.split(" ")) await symlink("busybox", join(root, "bin", name));
  await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n");
  await writeFile(join(root, "etc/group"), "root:x:0:\nstaff:x:1001:\nwheel:x:10:root,ann\n");
}

/** Everything that an attachment delivers, as text. */
export async function collect(attachment: Attachment): Promise<{ stdout: string; stderr: string }> {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  for await (const { stream, data } of attachment.output) parts[stream].push(data);
  return { stdout: Buffer.concat(parts.stdout).toString(), stderr: Buffer.concat(parts.stderr).toString() };
}

/** Lines of a k8s-file log, without time and stream. */
export async function logLines(path: string): Promise<string[]> {
  const text = await readFile(path, "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(" ").slice(3).join(" "));
}

export function cgroupsOf(id: string): string[] {
  const roots = readdirSync("/sys/fs/cgroup").map((name) => join("/sys/fs/cgroup", name));
  return ["/sys/fs/cgroup", ...roots].flatMap((root) =>
    ["strata", "strata-conmon"].map((name) => join(root, name, id)).filter(existsSync),
  );
}

const pids = (): string[] => readdirSync("/proc").filter((name) => /^\d+$/.test(name));

function processesNaming(text: string): string[] {
  return pids().filter((pid) => readSafely(`/proc/${pid}/cmdline`).includes(text));
}

function zombies(): string[] {
  return pids().filter((pid) => {
    const stat = readSafely(`/proc/${pid}/stat`);
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" && parent === `${process.pid}`;
  });
}

function readSafely(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
