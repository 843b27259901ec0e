/**
 * Mounts of a container's spec: Docker's defaults, then what the caller gives, shallow before deep. A caller's mount
 * takes the place of a default one with the same destination, and of those below it under /dev.
 */
import { existsSync } from "node:fs";

/** One mount of the OCI spec. */
export type SpecMount = {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
};

export type MountRules = {
  readonly mounts: readonly SpecMount[];
  readonly privileged: boolean;
  readonly shmSize: number;
  /** "none": no /dev/shm. */
  readonly ipc: "private" | "host" | "none" | "joined";
  readonly initPath: string | undefined;
};

/** Where `--init` puts the init program inside, as dockerd does. */
export const initDestination = "/sbin/docker-init";

/** The `mounts` member of the spec. */
export function specMounts(rules: MountRules): SpecMount[] {
  const given = new Set(rules.mounts.map((mount) => mount.destination));
  const hidesDevices = given.has("/dev");
  const defaults = defaultMounts(rules).filter(
    ({ destination }) => !given.has(destination) && !(hidesDevices && destination.startsWith("/dev/")),
  );
  const last = rules.mounts.map((mount, at) => ({ mount, at, depth: depthOf(mount.destination) }));
  last.sort((a, b) => a.depth - b.depth || a.at - b.at);
  return [...defaults, ...last.map(({ mount }) => mount), ...initMount(rules.initPath)];
}

function defaultMounts(rules: MountRules): SpecMount[] {
  const readonlyUnlessPrivileged = rules.privileged ? [] : ["ro"];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
      destination: "/sys",
      type: "sysfs",
      source: "sysfs",
      options: ["nosuid", "noexec", "nodev", ...readonlyUnlessPrivileged],
    },
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: [...readonlyUnlessPrivileged, "nosuid", "noexec", "nodev"],
    },
    ...ipcMounts(rules),
  ];
}

function ipcMounts(rules: MountRules): SpecMount[] {
  if (rules.ipc === "host")
    return ["/dev/mqueue", "/dev/shm"]
      .filter((path) => existsSync(path))
      .map((path) => ({
        destination: path,
        type: "bind",
        source: path,
        options: ["rbind", "nosuid", "noexec", "nodev"],
      }));
  const queue = {
    destination: "/dev/mqueue",
    type: "mqueue",
    source: "mqueue",
    options: ["nosuid", "noexec", "nodev"],
  };
  const memory = {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", `size=${rules.shmSize}`],
  };
  return rules.ipc === "none" ? [queue] : [queue, memory];
}

function initMount(path: string | undefined): SpecMount[] {
  if (path === undefined) return [];
  return [{ destination: initDestination, type: "bind", source: path, options: ["bind", "ro"] }];
}

const depthOf = (path: string): number => path.split("/").filter((part) => part !== "").length;

/** What the root must be so that the mounts' own propagation can work (Docker's rule); undefined: the runtime's default. */
export function rootPropagationOf(mounts: readonly SpecMount[]): "shared" | "rslave" | undefined {
  const has = (...words: string[]): boolean =>
    mounts.some((mount) => words.some((word) => mount.options.includes(word)));
  if (has("shared", "rshared")) return "shared";
  return has("slave", "rslave") ? "rslave" : undefined;
}
