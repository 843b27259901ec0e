/**
 * The OCI runtime spec of a container, with dockerd's defaults: namespaces, mounts, capabilities, seccomp, masked
 * paths, devices, limits. Input is plain and resolved: no image, no volume and no API type comes here.
 */
import { existsSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { maskedPaths, readonlyPaths } from "../base/protected-paths.ts";
import { resolveCapabilities } from "./capabilities.ts";
import { type DeviceRequest, resolveDevices } from "./devices.ts";
import { buildProcess, type ProcessInput } from "./process-spec.ts";
import { toOciResources, withDefaultSwap } from "./resources.ts";
import type { OciSpec, ResourceUpdate } from "./runtime.ts";
import { type ResolvedSecurity, resolveSecurity } from "./security.ts";
import { initDestination, rootPropagationOf, type SpecMount, specMounts } from "./spec-mounts.ts";

/** A namespace: its own, the host's, or the one at a path (`/proc/<pid>/ns/ipc`). */
export type NamespaceMode = "private" | "host" | { readonly path: string };

export type SpecInput = ProcessInput & {
  readonly id: string;
  /** The mounted root, on the host. */
  readonly rootfs: string;
  readonly hostname: string;
  readonly domainname?: string | undefined;
  readonly readonlyRootfs?: boolean | undefined;
  readonly mounts: readonly SpecMount[];
  /** "none" and "private" both have a network namespace of their own with nothing but loopback. */
  readonly network: "none" | NamespaceMode;
  readonly pid?: NamespaceMode | undefined;
  /** "none": private, and without /dev/shm. */
  readonly ipc?: "none" | NamespaceMode | undefined;
  readonly uts?: NamespaceMode | undefined;
  readonly cgroupns?: "private" | "host" | undefined;
  readonly sysctls?: Readonly<Record<string, string>> | undefined;
  readonly devices?: readonly DeviceRequest[] | undefined;
  readonly resources?: ResourceUpdate | undefined;
  /** Bytes of /dev/shm; 64 MiB when undefined. */
  readonly shmSize?: number | undefined;
  /** Host path of an init program that becomes process 1 and reaps; undefined: none. */
  readonly initPath?: string | undefined;
  /** undefined: Docker's defaults; empty: nothing. */
  readonly maskedPaths?: readonly string[] | undefined;
  readonly readonlyPaths?: readonly string[] | undefined;
  /** Parent of the container's cgroup, below each hierarchy's root; "/strata" when undefined. */
  readonly cgroupParent?: string | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
};

/** The usual `initPath`: the first that is here of what distributions call tini. It is static, as the container may have no libc. */
export const defaultInitPath =
  ["/usr/libexec/docker/docker-init", "/usr/bin/tini-static"].find((path) => existsSync(path)) ??
  "/usr/bin/docker-init";

const defaultShmSize = 64 * 1024 * 1024;

/** Builds the document that {@link Runtime.create} takes. Throws invalid_argument or unsupported, naming the option. */
export async function buildSpec(input: SpecInput): Promise<OciSpec> {
  const privileged = input.privileged === true;
  const security = await resolveSecurity(input.securityOptions ?? [], privileged, resolveCapabilities(input));
  if (input.initPath !== undefined && !existsSync(input.initPath))
    throw new EngineError("not_found", `no init program at ${input.initPath}: install tini, or run without --init`);
  const args = input.initPath === undefined ? input.args : [initDestination, "--", ...input.args];
  const mounts = specMounts({
    mounts: input.mounts,
    privileged,
    shmSize: input.shmSize ?? defaultShmSize,
    ipc: ipcKind(input.ipc),
    initPath: input.initPath,
  });
  return {
    ociVersion: "1.0.2",
    process: await buildProcess({ ...input, args }),
    root: { path: input.rootfs, readonly: input.readonlyRootfs === true },
    ...(input.uts === "host" || typeof input.uts === "object" ? {} : { hostname: input.hostname }),
    mounts,
    ...(input.annotations === undefined ? {} : { annotations: input.annotations }),
    linux: await linuxOf(input, mounts, security),
  };
}

async function linuxOf(
  input: SpecInput,
  mounts: readonly SpecMount[],
  security: ResolvedSecurity,
): Promise<Record<string, unknown>> {
  const privileged = input.privileged === true;
  const { devices, rules } = await resolveDevices(privileged, input.devices ?? []);
  const propagation = rootPropagationOf(mounts);
  return {
    cgroupsPath: `${input.cgroupParent || "/strata"}/${input.id}`.replace(/\/+/g, "/").replace(/^(?!\/)/, "/"),
    namespaces: namespacesOf(input),
    resources: { ...toOciResources(withDefaultSwap(input.resources ?? {})), devices: rules },
    sysctl: sysctlsOf(input),
    ...(devices.length === 0 ? {} : { devices }),
    ...(security.seccomp === undefined ? {} : { seccomp: security.seccomp }),
    ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
    maskedPaths: privileged ? [] : (input.maskedPaths ?? maskedPaths),
    readonlyPaths: privileged ? [] : (input.readonlyPaths ?? readonlyPaths),
  };
}

function ipcKind(ipc: SpecInput["ipc"]): "private" | "host" | "none" | "joined" {
  if (typeof ipc === "object") return "joined";
  return ipc ?? "private";
}

function namespacesOf(input: SpecInput): Record<string, string>[] {
  const modes: readonly (readonly [string, NamespaceMode])[] = [
    ["mount", "private"],
    ["network", input.network === "none" ? "private" : input.network],
    ["uts", input.uts ?? "private"],
    ["pid", input.pid ?? "private"],
    ["ipc", input.ipc === "none" ? "private" : (input.ipc ?? "private")],
    ["cgroup", input.cgroupns ?? "host"],
  ];
  return modes
    .filter(([, mode]) => mode !== "host")
    .map(([type, mode]) => (typeof mode === "object" ? { type, path: mode.path } : { type }));
}

/** Docker's defaults for a network namespace of its own, then the request's. */
function sysctlsOf(input: SpecInput): Record<string, string> {
  const own = input.network === "none" || input.network === "private";
  const defaults = own
    ? { "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" }
    : {};
  const known = Object.entries(defaults).filter(([name]) => existsSync(`/proc/sys/${name.replaceAll(".", "/")}`));
  const domain = input.domainname ? { "kernel.domainname": input.domainname } : {};
  return { ...Object.fromEntries(known), ...domain, ...input.sysctls };
}
