/** From a container's record to what the runtime's spec is built of: environment, user, namespaces, limits. */
import { defaultInitPath, type NamespaceMode, type SpecInput } from "../runtime/spec.ts";
import type { SpecMount } from "../runtime/spec-mounts.ts";
import { type ResolvedUser, resolveUser } from "../runtime/user.ts";
import { hostnameOf } from "./config-files.ts";
import type { HostConfig } from "./container.ts";
import type { Context } from "./context.ts";
import type { ContainerRecord } from "./record.ts";
import { resourcesOf } from "./resources.ts";

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const keyOf = (variable: string): string => variable.split("=", 1)[0] ?? variable;

/** Later lists win; a variable without `=` takes an earlier one away. */
export function mergeEnvironment(...lists: readonly (readonly string[])[]): readonly string[] {
  const merged = new Map<string, string | undefined>();
  for (const variable of lists.flat()) merged.set(keyOf(variable), variable.includes("=") ? variable : undefined);
  return [...merged.values()].filter((variable) => variable !== undefined);
}

/** What every process of the container starts with. */
export function environmentOf(record: ContainerRecord, tty: boolean, home: string): readonly string[] {
  const defaults = [`PATH=${defaultPath}`, `HOSTNAME=${hostnameOf(record)}`, ...(tty ? ["TERM=xterm"] : [])];
  const environment = mergeEnvironment(defaults, record.config.Env ?? []);
  return environment.some((variable) => variable.startsWith("HOME=")) ? environment : [...environment, `HOME=${home}`];
}

/** `container:<id>` -> the namespace of that container's first process. Throws conflict when it does not run. */
export function joinedNamespace(context: Context, mode: string, kind: "net" | "pid"): NamespaceMode {
  const other = context.entries.get(mode.slice("container:".length));
  const what = kind === "net" ? "network" : "PID";
  const run = other.runOr(`cannot join ${what} of a non running container: ${other.id}`);
  return { path: `/proc/${run.pid}/ns/${kind}` };
}

function networkOf(context: Context, host: HostConfig): NamespaceMode {
  if (host.NetworkMode === "host") return "host";
  return host.NetworkMode?.startsWith("container:") ? joinedNamespace(context, host.NetworkMode, "net") : "private";
}

function pidOf(context: Context, host: HostConfig): NamespaceMode {
  if (host.PidMode === "host") return "host";
  return host.PidMode?.startsWith("container:") ? joinedNamespace(context, host.PidMode, "pid") : "private";
}

function processOf(record: ContainerRecord, user: ResolvedUser) {
  const { config, hostConfig: host } = record;
  const tty = config.Tty === true;
  return {
    args: [record.path, ...record.args],
    env: environmentOf(record, tty, user.home),
    cwd: config.WorkingDir ?? "",
    user,
    tty,
    ...rightsOf(host),
    oomScoreAdj: host.OomScoreAdj === 0 ? undefined : host.OomScoreAdj,
    ulimits: (host.Ulimits ?? []).map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
  };
}

/** What the container's processes may do; the same for an exec. */
export function rightsOf(host: HostConfig) {
  return {
    privileged: host.Privileged === true,
    capAdd: host.CapAdd ?? [],
    capDrop: host.CapDrop ?? [],
    securityOptions: host.SecurityOpt ?? [],
  };
}

function cgroupNamespaceOf(host: HostConfig): "private" | "host" | undefined {
  return host.CgroupnsMode === "host" || host.CgroupnsMode === "private" ? host.CgroupnsMode : undefined;
}

function namespacesOf(context: Context, host: HostConfig) {
  const ipc: "host" | "none" | "private" =
    host.IpcMode === "host" || host.IpcMode === "none" ? host.IpcMode : "private";
  const uts: "host" | "private" = host.UTSMode === "host" ? "host" : "private";
  return {
    network: networkOf(context, host),
    pid: pidOf(context, host),
    ipc,
    uts,
    cgroupns: cgroupNamespaceOf(host),
  };
}

/** `rootfs` is mounted: users and groups are looked up inside it. */
export async function specInput(
  context: Context,
  record: ContainerRecord,
  tree: { readonly rootfs: string; readonly mounts: readonly SpecMount[] },
): Promise<SpecInput> {
  const { config, hostConfig: host } = record;
  const user = await resolveUser(tree.rootfs, config.User ?? "", host.GroupAdd ?? []);
  return {
    ...processOf(record, user),
    ...namespacesOf(context, host),
    ...tree,
    id: record.id,
    hostname: hostnameOf(record),
    domainname: config.Domainname || undefined,
    readonlyRootfs: host.ReadonlyRootfs === true,
    sysctls: host.Sysctls ?? undefined,
    devices: (host.Devices ?? []).map((device) => ({
      hostPath: device.PathOnHost,
      containerPath: device.PathInContainer,
      permissions: device.CgroupPermissions || "rwm",
    })),
    resources: resourcesOf(host),
    shmSize: host.ShmSize ? host.ShmSize : undefined,
    initPath: host.Init === true ? defaultInitPath : undefined,
    maskedPaths: host.MaskedPaths ?? undefined,
    readonlyPaths: host.ReadonlyPaths ?? undefined,
    cgroupParent: host.CgroupParent || undefined,
  };
}
