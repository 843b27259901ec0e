/** Containers as the API shows them: a row of `docker ps`, and `docker inspect`. */
import type { MountPoint } from "../../base/mount-point.ts";
import { maskedPaths, readonlyPaths } from "../../base/protected-paths.ts";
import type { Container, ContainerSize, HostConfig } from "../../container/container.ts";
import { configJson } from "./config-json.ts";
import { statusText } from "./human-duration.ts";

const sizes = (size: ContainerSize | undefined): object =>
  size === undefined ? {} : { SizeRw: size.rw, SizeRootFs: size.rootFs };

function mountJson(mount: MountPoint): object {
  return {
    Type: mount.type,
    ...(mount.name === undefined ? {} : { Name: mount.name }),
    Source: mount.source,
    Destination: mount.destination,
    ...(mount.driver === undefined ? {} : { Driver: mount.driver }),
    Mode: mount.mode,
    RW: mount.readWrite,
    Propagation: mount.propagation,
  };
}

function endpointJson(settings: Readonly<Record<string, unknown>>): object {
  return {
    IPAMConfig: settings.IPAMConfig ?? null,
    Links: settings.Links ?? null,
    Aliases: settings.Aliases ?? null,
    MacAddress: "",
    DriverOpts: settings.DriverOpts ?? null,
    NetworkID: settings.NetworkID ?? "",
    EndpointID: settings.EndpointID ?? "",
    Gateway: "",
    IPAddress: "",
    IPPrefixLen: 0,
    IPv6Gateway: "",
    GlobalIPv6Address: "",
    GlobalIPv6PrefixLen: 0,
    DNSNames: settings.DNSNames ?? null,
  };
}

/** The mode as clients expect it spelled out: `default` is the bridge. */
export function networkModeOf(container: Container): string {
  const mode = container.hostConfig.NetworkMode ?? "";
  return mode === "" ? "default" : mode;
}

function networksJson(container: Container): Record<string, object> {
  const mode = networkModeOf(container);
  const shown = new Map(Object.entries(container.networks).map(([name, given]) => [name, endpointJson(given)]));
  shown.delete("default");
  if (!mode.startsWith("container:")) {
    const name = mode === "default" ? "bridge" : mode;
    if (!shown.has(name)) shown.set(name, endpointJson(container.networks.default ?? {}));
  }
  return Object.fromEntries(shown);
}

/** The COMMAND column: words with blanks stand in single quotes. */
export function commandText({ path, args }: Container): string {
  return [path, ...args.map((word) => (word.includes(" ") ? `'${word}'` : word))].join(" ");
}

/** Finds the image that a name means today. */
export type ImageFinder = (name: string) => { readonly id: string } | undefined;

/** The name that the container was made with, while it still means the same image; the image's id afterwards. */
function imageName({ image, imageId }: Container, find: ImageFinder): string {
  if (imageId === undefined) return image;
  return image !== "" && find(image)?.id === imageId ? image : imageId;
}

export type SummaryFacts = {
  readonly size: ContainerSize | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly findImage: ImageFinder;
};

/** One row of `GET /containers/json`. */
export function summaryJson(container: Container, { size, now, findImage }: SummaryFacts): object {
  return {
    Id: container.id,
    Names: [`/${container.name}`],
    Image: imageName(container, findImage),
    ImageID: container.imageId ?? "",
    Command: commandText(container),
    Created: Math.trunc(Date.parse(container.created) / 1000),
    Ports: [],
    ...sizes(size),
    Labels: container.config.Labels ?? {},
    State: container.state.status,
    Status: statusText(container.state, now),
    HostConfig: { NetworkMode: networkModeOf(container) },
    NetworkSettings: { Networks: networksJson(container) },
    Mounts: container.mounts.map(mountJson),
  };
}

function stateJson({ state }: Container): object {
  const { status } = state;
  return {
    Status: status,
    Running: status === "running" || status === "paused" || status === "restarting",
    Paused: status === "paused",
    Restarting: status === "restarting",
    OOMKilled: state.oomKilled,
    Dead: status === "dead",
    Pid: state.pid,
    ExitCode: state.exitCode,
    Error: state.error,
    StartedAt: state.startedAt,
    FinishedAt: state.finishedAt,
  };
}

/** Members of HostConfig that dockerd always shows, with the values of one that was given nothing. */
const hostDefaults: HostConfig = {
  Binds: null,
  ContainerIDFile: "",
  LogConfig: { Type: "json-file", Config: {} },
  NetworkMode: "default",
  PortBindings: {},
  RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: "",
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: "private",
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: "private",
  Cgroup: "",
  Links: null,
  OomScoreAdj: 0,
  PidMode: "",
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: "",
  UsernsMode: "",
  ShmSize: 67108864,
  Runtime: "runc",
  Isolation: "",
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: "",
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  BlkioDeviceReadBps: [],
  BlkioDeviceWriteBps: [],
  BlkioDeviceReadIOps: [],
  BlkioDeviceWriteIOps: [],
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: "",
  CpusetMems: "",
  Devices: [],
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: false,
  PidsLimit: null,
  Ulimits: [],
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
};

/** What a client gave, over the defaults; empty texts of modes count as not given. */
function hostConfigJson(given: HostConfig): object {
  const told = Object.entries(given).filter(([key, value]) => {
    if (value === undefined) return false;
    if (value === "" || value === 0) return hostDefaults[key] === undefined || hostDefaults[key] === value;
    return value !== null || hostDefaults[key] === null || hostDefaults[key] === undefined;
  });
  const log = given.LogConfig;
  return {
    ...hostDefaults,
    ...Object.fromEntries(told),
    LogConfig: { Type: log?.Type || "json-file", Config: log?.Config ?? {} },
    MaskedPaths: given.MaskedPaths ?? (given.Privileged === true ? null : maskedPaths),
    ReadonlyPaths: given.ReadonlyPaths ?? (given.Privileged === true ? null : readonlyPaths),
    MemorySwappiness: null,
    PidsLimit: given.PidsLimit || null,
  };
}

export type Driver = { readonly name: string; readonly data: Readonly<Record<string, string>> | null };

/** `GET /containers/{id}/json`. */
export function inspectJson(container: Container, driver: Driver, size: ContainerSize | undefined): object {
  return {
    Id: container.id,
    Created: container.created,
    Path: container.path,
    Args: container.args,
    State: stateJson(container),
    Image: container.imageId ?? "",
    ResolvConfPath: container.resolvConfPath,
    HostnamePath: container.hostnamePath,
    HostsPath: container.hostsPath,
    LogPath: container.logPath,
    Name: `/${container.name}`,
    RestartCount: container.restartCount,
    Driver: driver.name,
    Platform: "linux",
    MountLabel: "",
    ProcessLabel: "",
    AppArmorProfile: "",
    ExecIDs: null,
    HostConfig: hostConfigJson(container.hostConfig),
    GraphDriver: { Data: driver.data, Name: driver.name },
    ...sizes(size),
    Mounts: container.mounts.map(mountJson),
    Config: configJson(container.config),
    NetworkSettings: networkSettingsJson(container),
  };
}

function networkSettingsJson(container: Container): object {
  return {
    Bridge: "",
    SandboxID: "",
    SandboxKey: "",
    Ports: {},
    HairpinMode: false,
    LinkLocalIPv6Address: "",
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: "",
    Gateway: "",
    GlobalIPv6Address: "",
    GlobalIPv6PrefixLen: 0,
    IPAddress: "",
    IPPrefixLen: 0,
    IPv6Gateway: "",
    MacAddress: "",
    Networks: networksJson(container),
  };
}
