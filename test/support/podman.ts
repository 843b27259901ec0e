/** A stock podman for tests, with storage, settings and plugins of its own below one scratch folder. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CommandResult, command, succeed } from "./engine.ts";

export type Podman = {
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

/** `plugins`: name -> socket. */
export function setUpPodman(root: string, plugins: Readonly<Record<string, string>>): Podman {
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
[engine.volume_plugins]
${Object.entries(plugins)
  .map(([name, socket]) => `${name} = ${JSON.stringify(socket)}`)
  .join("\n")}
`,
  );
  const folders = ["--root", join(root, "root"), "--runroot", join(root, "run"), "--tmpdir", join(root, "tmp")];
  const all = (args: readonly string[]): readonly string[] => [...folders, "--storage-driver", "vfs", ...args];
  const env = { CONTAINERS_CONF: settings };
  return {
    run: (args) => command("podman", all(args), { env }),
    ok: async (args) => (await succeed("podman", all(args), { env })).trim(),
  };
}
