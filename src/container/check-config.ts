/**
 * What a create or update request may ask: Docker's checks with Docker's texts (invalid_argument), and a clear refusal
 * (unsupported) of every option that this engine would otherwise accept and ignore. Nothing is made here.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { EngineError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import { parseSize } from "../base/size.ts";
import type { HostConfig, RestartPolicy } from "./container.ts";
import { parseSignal } from "./signal-name.ts";

/** Members of HostConfig that have an effect, or that clients always send and that ask for nothing here. */
const honoured = new Set(
  (
    "Binds Mounts Tmpfs VolumesFrom VolumeDriver NetworkMode RestartPolicy AutoRemove CapAdd CapDrop Privileged ReadonlyRootfs " +
    "SecurityOpt Init StorageOpt Memory MemorySwap MemoryReservation NanoCpus CpuShares CpuPeriod CpuQuota CpusetCpus " +
    "CpusetMems PidsLimit ShmSize ExtraHosts Dns DnsSearch DnsOptions GroupAdd OomScoreAdj Sysctls Ulimits Devices LogConfig " +
    "MaskedPaths ReadonlyPaths CgroupParent IpcMode PidMode UTSMode UsernsMode CgroupnsMode Runtime ContainerIDFile ConsoleSize " +
    "Isolation MemorySwappiness"
  ).split(" "),
);

/** Names of getrlimit(2), as `--ulimit` takes them. */
const ulimits: ReadonlySet<string> = new Set(
  "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split(" "),
);

const mebibyte = 1024 * 1024;
const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
const unsupported = (message: string): EngineError => new EngineError("unsupported", message);

/** `0-3`, as the kernel writes it; where it does not, there is the one that everything runs on. */
function kernelSet(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "0";
  }
}

/** Nothing was asked: null, "", 0, false, [] or {}. */
function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === "" || value === 0 || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

const reasons: Readonly<Record<string, string>> = {
  PortBindings: "publishing ports is not supported: use --network host, or leave -p out",
  PublishAllPorts: "publishing ports is not supported: use --network host, or leave -P out",
  Links: "links are not supported: leave --link out",
  DeviceRequests: "device requests (--gpus) are not supported: leave them out",
};

function refuseUnknown(host: HostConfig): void {
  for (const [key, value] of Object.entries(host)) {
    if (honoured.has(key) || isEmpty(value)) continue;
    throw unsupported(reasons[key] ?? `HostConfig.${key} is not supported by this engine: leave it out`);
  }
  const swappiness = host.MemorySwappiness;
  if (swappiness !== null && swappiness !== undefined && swappiness !== -1)
    throw unsupported("setting memory swappiness is not supported: leave --memory-swappiness out");
}

function allow(option: string, value: string | undefined, allowed: readonly string[]): void {
  if (value === undefined || value === "" || allowed.includes(value)) return;
  throw unsupported(
    `${option} ${JSON.stringify(value)} is not supported: use ${allowed.join(" or ")}, or leave it out`,
  );
}

function refuseModes(host: HostConfig): void {
  const isolation = host.Isolation;
  allow("isolation", typeof isolation === "string" ? isolation : undefined, ["default"]);
  allow("IPC mode", host.IpcMode, ["private", "host", "none"]);
  allow("UTS mode", host.UTSMode, ["host"]);
  allow("user namespace mode", host.UsernsMode, ["host"]);
  allow("cgroup namespace mode", host.CgroupnsMode, ["private", "host"]);
  if (!host.PidMode?.startsWith("container:")) allow("PID mode", host.PidMode, ["host", "container:<name|id>"]);
}

function checkLog(host: HostConfig): void {
  const type = host.LogConfig?.Type ?? "";
  if (!["", "json-file", "none"].includes(type))
    throw unsupported(`logger: no log driver named '${type}' is registered: use json-file or none`);
  for (const [key, value] of Object.entries(host.LogConfig?.Config ?? {})) {
    if (key === "max-size") parseSize(value);
    else if (key !== "max-file" || value !== "1")
      throw unsupported(`the log option ${key}=${value} is not supported: max-size, and max-file=1, are`);
  }
}

/** Throws invalid_argument with Docker's texts. */
export function checkRestartPolicy(policy: RestartPolicy | undefined): void {
  const name = policy?.Name ?? "";
  const retries = policy?.MaximumRetryCount ?? 0;
  if (!["", "no", "always", "on-failure", "unless-stopped"].includes(name))
    throw invalid(
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  if (retries < 0) throw invalid("invalid restart policy: maximum retry count cannot be negative");
  if (retries > 0 && name !== "on-failure")
    throw invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
}

function checkMemory(host: HostConfig): void {
  const { Memory = 0, MemorySwap = 0, MemoryReservation = 0 } = host;
  if (Memory !== 0 && Memory < 6 * mebibyte) throw invalid("Minimum memory limit allowed is 6MB");
  if (Memory > 0 && MemorySwap > 0 && MemorySwap < Memory)
    throw invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
  if (Memory === 0 && MemorySwap > 0)
    throw invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
  if (MemorySwap < -1) throw invalid("Minimum memoryswap limit is -1, which is no limit");
  if (MemoryReservation !== 0 && MemoryReservation < 6 * mebibyte)
    throw invalid("Minimum memory reservation allowed is 6MB");
  if (Memory > 0 && MemoryReservation > Memory)
    throw invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
}

function checkCpu(host: HostConfig): void {
  const { NanoCpus = 0, CpuPeriod = 0, CpuQuota = 0, CpuShares = 0 } = host;
  if (NanoCpus > 0 && CpuPeriod > 0) throw invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
  if (NanoCpus > 0 && CpuQuota > 0) throw invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
  const cpus = NanoCpus === 0 ? 0 : availableParallelism();
  if (NanoCpus < 0 || NanoCpus > cpus * 1e9)
    throw invalid(`range of CPUs is from 0.01 to ${cpus}.00, as there are only ${cpus} CPUs available`);
  if (CpuPeriod !== 0 && (CpuPeriod < 1000 || CpuPeriod > 1_000_000))
    throw invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
  if (CpuShares < 0) throw invalid("CPU shares can not be less than 0");
  if (CpuQuota < -1) throw invalid("CPU cfs quota can not be less than -1, which is no limit");
  if (CpuQuota > 0 && CpuQuota < 1000) throw invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
}

/** `0-3,5` against what this machine has (`online`, in the same form). */
function checkSet(what: string, asked: string, online: string): void {
  if (asked === "") return;
  const wanted = parseSet(asked);
  if (wanted === undefined) throw invalid(`Invalid value ${asked} for cpuset ${what.toLowerCase()}`);
  const here = parseSet(online) ?? [];
  const missing = wanted.some(([low, high]) => !here.some(([first, last]) => first <= low && high <= last));
  if (missing) throw invalid(`Requested ${what} are not available - requested ${asked}, available: ${online}`);
}

function parseSet(text: string): readonly (readonly [number, number])[] | undefined {
  const ranges = text.split(",").map((part) => {
    const [, low, high] = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(part) ?? [];
    return [Number(low), Number(high ?? low)] as const;
  });
  return ranges.every(([low, high]) => low <= high) ? ranges : undefined;
}

function checkUlimits(host: HostConfig): void {
  for (const { Name, Soft, Hard } of host.Ulimits ?? []) {
    if (!ulimits.has(Name)) throw invalid(`invalid ulimit type: ${Name}`);
    if (Hard !== -1 && (Soft === -1 || Soft > Hard))
      throw invalid(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
  }
}

/** Limits of a create or an update. */
export function checkResources(host: HostConfig): void {
  checkMemory(host);
  checkCpu(host);
  checkSet("CPUs", host.CpusetCpus ?? "", kernelSet("/sys/devices/system/cpu/online"));
  checkSet("memory nodes", host.CpusetMems ?? "", kernelSet("/sys/devices/system/node/online"));
  checkRestartPolicy(host.RestartPolicy);
}

/**
 * Throws for any host option that would be ignored. Asked again at each start: a container that came from another engine
 * is kept with all that it was asked for, and does not run without it.
 */
export function refuseUnsupported(host: HostConfig): void {
  refuseUnknown(host);
  refuseModes(host);
  const runtime = host.Runtime ?? "";
  if (runtime !== "" && runtime !== "runc") throw invalid(`unknown or invalid runtime name: ${runtime}`);
  checkLog(host);
}

/** Throws for any host option that cannot be honoured. */
export function checkHostConfig(host: HostConfig): void {
  refuseUnsupported(host);
  checkResources(host);
  checkUlimits(host);
  if ((host.ShmSize ?? 0) < 0) throw invalid("SHM size can not be less than 0");
  const adjustment = host.OomScoreAdj ?? 0;
  if (adjustment < -1000 || adjustment > 1000)
    throw invalid(`Invalid value ${adjustment}, range for oom score adj is [-1000, 1000]`);
  const policy = host.RestartPolicy?.Name ?? "";
  if (host.AutoRemove === true && policy !== "" && policy !== "no")
    throw invalid("can't create 'AutoRemove' container with restart policy");
}

/** Throws for a config that no process can be started with. */
export function checkRunConfig(config: RunConfig): void {
  const directory = config.WorkingDir ?? "";
  if (directory !== "" && !directory.startsWith("/"))
    throw invalid(`the working directory '${directory}' is invalid, it needs to be an absolute path`);
  for (const variable of config.Env ?? [])
    if (variable === "" || variable.startsWith("=")) throw invalid(`invalid environment variable: ${variable}`);
  if (config.MacAddress) throw unsupported("MAC addresses are not supported: leave --mac-address out");
  if (config.StopSignal !== undefined && config.StopSignal !== "") parseSignal(config.StopSignal);
}
