/**
 * Real daemons for tests and benchmarks: Strata's own, and a stock dockerd as the peer, each with roots and a socket of
 * its own below one scratch folder, driven by the unmodified docker CLI. Needs a private mount namespace.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMountPoint } from "../../src/host/mount.ts";

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type CommandOptions = {
  readonly input?: string | Uint8Array | NodeJS.ReadableStream;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds; the command is killed then. */
  readonly deadline?: number;
};

const project = new URL("../..", import.meta.url).pathname;

/** Runs a program to its end and keeps what it printed. */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = spawn(program, args, { env: { ...process.env, ...options.env }, stdio: ["pipe", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.deadline ?? 120_000);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => undefined);
  const { input } = options;
  if (typeof input === "object" && "pipe" in input) input.pipe(child.stdin);
  else child.stdin.end(input ?? "");
  const [code] = await once(child, "close");
  clearTimeout(timer);
  return { code: typeof code === "number" ? code : -1, stdout, stderr };
}

/** As {@link command}, but anything else than exit code 0 is an error with what was printed. */
export async function succeed(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await command(program, args, options);
  if (result.code !== 0)
    throw new Error(`${program} ${args.join(" ")}: exit ${result.code}: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

/** A scratch folder that goes when it is disposed. */
export function scratchFolder(parent: string = tmpdir()): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(parent, "strata-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) };
}

/** Unmounts everything below a folder, the deepest first: what a peer left, and our own loop mounts. */
export async function unmountBelow(folder: string): Promise<void> {
  const script = `grep -o " $1[^ ]* " /proc/self/mountinfo | tr -d ' ' | sort -r | while read -r target; do umount -l "$target"; done`;
  await succeed("bash", ["-c", script, "unmount-below", folder]);
}

export type Daemon = AsyncDisposable & {
  readonly host: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pid: number;
  /** Runs the docker CLI against this daemon. */
  readonly docker: (args: readonly string[], options?: CommandOptions) => Promise<CommandResult>;
  /** The same, but failing is an error; returns what it printed, trimmed. */
  readonly ok: (args: readonly string[], options?: CommandOptions) => Promise<string>;
  readonly log: () => string;
  /** SIGTERM, waits for the end. */
  readonly stop: () => Promise<void>;
  /** SIGKILL, waits for the end. */
  readonly kill: () => Promise<void>;
};

/** Answers of the daemon behind a unix socket. */
export async function ping(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path: "/_ping", timeout: 2000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.on("error", () => resolve(false));
    call.on("timeout", () => call.destroy());
    call.end();
  });
}

type Launch = {
  readonly program: string;
  readonly args: readonly string[];
  readonly root: string;
  readonly dataRoot: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds until it must answer. */
  readonly patience?: number | undefined;
};

/** Starts a program that listens on `docker.sock` below `root`, and waits until it answers as a Docker engine does. */
export async function launch({
  program,
  args,
  root,
  dataRoot,
  env: more,
  patience = 120_000,
}: Launch): Promise<Daemon> {
  const socket = join(root, "docker.sock");
  const logPath = join(root, "daemon.log");
  const log = openSync(logPath, "a");
  const child: ChildProcess = spawn(program, args, { stdio: ["ignore", log, log], env: { ...process.env, ...more } });
  const ended = once(child, "exit");
  const readLog = (): string => readFileSync(logPath, "utf8");
  const give = performance.now() + patience;
  while (!(await ping(socket))) {
    if (child.exitCode !== null || performance.now() > give) {
      child.kill("SIGKILL");
      throw new Error(`${program} did not start:\n${readLog().slice(-4000)}`);
    }
    // Asking takes from what starts, and who is given much time runs where that is slow.
    await sleep(patience / 8000);
  }
  const host = `unix://${socket}`;
  const env = { DOCKER_HOST: host, DOCKER_BUILDKIT: "0", DOCKER_CLI_HINTS: "false" };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  const docker: Daemon["docker"] = (arguments_, options = {}) =>
    command("docker", arguments_, { ...options, env: { ...env, ...options.env } });
  return {
    host,
    dataRoot,
    execRoot: join(root, "exec"),
    pid: child.pid ?? -1,
    docker,
    ok: async (arguments_, options = {}) => {
      const result = await docker(arguments_, options);
      if (result.code !== 0)
        throw new Error(
          `docker ${arguments_.join(" ")}: exit ${result.code}: ${result.stderr}\n${readLog().slice(-2000)}`,
        );
      return result.stdout.trim();
    },
    log: readLog,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: () => end("SIGTERM"),
  };
}

export type StrataOptions = {
  /** Holds socket, log and exec root. */
  readonly root: string;
  readonly dataRoot?: string;
  readonly driver?: string;
  readonly args?: readonly string[];
  /** What is run with these arguments; `bin/strata` unless given. */
  readonly program?: readonly [file: string, ...before: readonly string[]];
  /** Instead of all that the other members say; the daemon still has to listen on `docker.sock` below `root`. */
  readonly onlyArgs?: readonly string[];
  /** Milliseconds until it must answer. */
  readonly patience?: number;
};

/** Where a daemon of {@link startStrata} looks for volume plugins, unless it is told otherwise. */
export const pluginFolderOf = (root: string): string => join(root, "plugins");

/** Starts `strata daemon` and waits until it answers. */
export async function startStrata({
  root,
  dataRoot = join(root, "data"),
  driver,
  args = [],
  onlyArgs,
  patience,
  program = [join(project, "bin/strata")],
}: StrataOptions): Promise<Daemon> {
  mkdirSync(root, { recursive: true });
  const roots = ["--data-root", dataRoot, "--exec-root", join(root, "exec")];
  const socket = ["-H", `unix://${join(root, "docker.sock")}`];
  const storage = driver === undefined ? [] : ["--storage-driver", driver];
  // Other tests' plugins are nobody else's volumes.
  const plugins = args.includes("--plugin-dir") ? [] : ["--plugin-dir", pluginFolderOf(root)];
  const [file, ...before] = program;
  const all = [...before, "daemon", ...(onlyArgs ?? [...roots, ...socket, ...plugins, ...storage, ...args])];
  return launch({ program: file, args: all, root, dataRoot, patience });
}

/** Whether {@link startDockerd} has what to start. */
export function dockerdIsHere(): boolean {
  return spawnSync("sh", ["-c", "command -v dockerd"], { stdio: "ignore" }).status === 0;
}

export type DockerdOptions = {
  /** Holds socket, log and exec root. */
  readonly root: string;
  readonly dataRoot: string;
  readonly driver?: string | undefined;
  readonly args?: readonly string[];
  /** Milliseconds until it must answer. */
  readonly patience?: number;
};

/** Starts a stock dockerd without networks, on plugin folders that nobody else sees. */
export function startDockerd(root: string, dataRoot: string, driver?: string): Promise<Daemon> {
  return launchDockerd({ root, dataRoot, driver });
}

/** The same, with more arguments, and where it may be slow. */
export async function launchDockerd(options: DockerdOptions): Promise<Daemon> {
  const { root, dataRoot, driver, args = [], patience } = options;
  for (const folder of ["/run/docker", "/etc/docker"]) {
    mkdirSync(folder, { recursive: true });
    // once: what else is there (a plugin's socket) must outlive a daemon
    if (!isMountPoint(folder)) await succeed("mount", ["-t", "tmpfs", "tmpfs", folder]);
  }
  mkdirSync(root, { recursive: true });
  const roots = ["--data-root", dataRoot, "--exec-root", join(root, "exec"), "--pidfile", join(root, "pid")];
  const network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"];
  const storage = driver === undefined ? [] : ["--storage-driver", driver];
  const socket = ["-H", `unix://${join(root, "docker.sock")}`];
  return launch({
    program: "dockerd",
    args: [...roots, ...network, ...storage, ...socket, ...args],
    root,
    dataRoot,
    patience,
  });
}

/** After a kill: its containerd dies with it; where nobody reaps that, the next dockerd would wait for it. */
export function removeContainerdPid({ execRoot }: Daemon): void {
  rmSync(join(execRoot, "containerd/containerd.pid"), { force: true });
}

/** A tar of a root filesystem with a static busybox and the applets that tests use. */
export async function busyboxTar(path: string): Promise<string> {
  const applets =
    "sh ls cat echo rm mkdir wc true false sleep touch cp mv ln chmod chown stat find test id mount df dd sort head tail grep ps kill env sync seq yes stty tr cut md5sum sha256sum readlink xargs nc hostname ip tar mkfifo mknod";
  const script = `set -e; d=$(mktemp -d); mkdir -p $d/bin $d/etc $d/tmp $d/root; cp "$(command -v busybox)" $d/bin/busybox
for a in ${applets}; do ln -s busybox $d/bin/$a; done
printf 'root:x:0:0:root:/root:/bin/sh\\nuser:x:1000:1000::/:/bin/sh\\n' >$d/etc/passwd; printf 'root:x:0:\\nuser:x:1000:\\n' >$d/etc/group
chmod 1777 $d/tmp; chmod 755 $d; tar -C $d -c --numeric-owner --owner=0 --group=0 -f "$1" .; rm -rf $d`;
  await succeed("bash", ["-c", script, "busybox-tar", path]);
  return path;
}
