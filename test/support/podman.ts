/** A stock podman for tests, with storage, settings and plugins of its own below one scratch folder. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CommandResult, command, type Daemon, launch, succeed } from "./engine.ts";

/** Where everything of one podman is, and what it uses. */
export type PodmanOptions = {
  /** Name -> socket. */
  readonly plugins?: Readonly<Record<string, string>>;
  /** Seconds that a plugin has for an answer; podman's own choice (5) when undefined. */
  readonly pluginTimeout?: number;
  /** podman's own name of it; vfs when undefined. */
  readonly storageDriver?: string;
  /** Where layers are kept; below the root when undefined. */
  readonly dataRoot?: string;
};

export type Podman = {
  /** What `podman` is given before a command, and its environment. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly run: (args: readonly string[]) => Promise<CommandResult>;
  /** Failing is an error; returns what it printed, trimmed. */
  readonly ok: (args: readonly string[]) => Promise<string>;
};

export function podmanIsHere(): boolean {
  return spawnSync("sh", ["-c", "command -v podman"], { stdio: "ignore" }).status === 0;
}

/** Where root may not raise limits, podman's own defaults are refused: what it has itself, which is never above `pid_max`. */
function limits(): readonly string[] {
  const text = readFileSync("/proc/self/limits", "utf8");
  const hard = (name: string): number =>
    Number(new RegExp(`^${name}\\s+\\S+\\s+(\\d+)`, "m").exec(text)?.[1] ?? Infinity);
  const most = Number(readFileSync("/proc/sys/kernel/pid_max", "utf8"));
  const files = Math.min(hard("Max open files"), 1024);
  const processes = Math.min(hard("Max processes"), most);
  return [`"nofile=${files}:${files}"`, `"nproc=${processes}:${processes}"`];
}

export function setUpPodman(root: string, options: PodmanOptions = {}): Podman {
  const { plugins = {}, pluginTimeout = 5, storageDriver = "vfs", dataRoot = join(root, "root") } = options;
  mkdirSync(root, { recursive: true });
  const settings = join(root, "containers.conf");
  writeFileSync(
    settings,
    `[containers]
netns = "none"
default_ulimits = [${limits().join(", ")}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
volume_plugin_timeout = ${pluginTimeout}
[engine.volume_plugins]
${Object.entries(plugins)
  .map(([name, socket]) => `${name} = ${JSON.stringify(socket)}`)
  .join("\n")}
`,
  );
  const folders = ["--root", dataRoot, "--runroot", join(root, "run"), "--tmpdir", join(root, "tmp")];
  const first = [...folders, "--storage-driver", storageDriver];
  const all = (args: readonly string[]): readonly string[] => [...first, ...args];
  const env = { CONTAINERS_CONF: settings };
  return {
    args: first,
    env,
    run: (args) => command("podman", all(args), { env }),
    ok: async (args) => (await succeed("podman", all(args), { env })).trim(),
  };
}

/** Starts podman's service, which speaks Docker's API. */
export function startPodman(root: string, options: PodmanOptions & { readonly dataRoot: string }): Promise<Daemon> {
  const { args, env } = setUpPodman(root, options);
  const service = ["system", "service", "--time", "0", `unix://${join(root, "docker.sock")}`];
  return launch({ program: "podman", args: [...args, ...service], root, dataRoot: options.dataRoot, env });
}
