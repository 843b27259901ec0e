/** `GET /info`, in dockerd's shape. */

import { engineVersion } from "../../base/version.ts";
import type { ContainerStatus } from "../../container/container.ts";
import { hostFacts } from "./host-facts.ts";
import { allContainers, type SystemServices } from "./system-services.ts";

const runningStates: readonly ContainerStatus[] = ["running", "restarting"];

/** Facts of the engine and its machine. */
export async function infoJson(services: SystemServices): Promise<object> {
  const { facts, layers } = services;
  const states = allContainers(services.containers).map(({ state }) => state.status);
  const running = states.filter((status) => runningStates.includes(status)).length;
  const paused = states.filter((status) => status === "paused").length;
  return {
    ID: facts.id,
    Containers: states.length,
    ContainersRunning: running,
    ContainersPaused: paused,
    ContainersStopped: states.length - running - paused,
    Images: services.images.list().length,
    Driver: layers.driverName,
    DriverStatus: await layers.driverStatus(),
    Plugins: {
      Volume: services.volumes.drivers,
      Network: ["host", "null"],
      Authorization: null,
      Log: ["json-file", "none"],
    },
    ...machineJson(),
    Debug: facts.debug,
    NFd: -1,
    OomKillDisable: false,
    NGoroutines: -1,
    SystemTime: new Date().toISOString(),
    LoggingDriver: "json-file",
    NEventsListener: 0,
    IndexServerAddress: "https://index.docker.io/v1/",
    RegistryConfig: registryJson(facts.insecureRegistries),
    GenericResources: null,
    DockerRootDir: facts.dataRoot,
    HttpProxy: "",
    HttpsProxy: "",
    NoProxy: "",
    Labels: facts.labels,
    ExperimentalBuild: false,
    ServerVersion: engineVersion,
    Runtimes: { runc: { path: "runc" } },
    DefaultRuntime: "runc",
    Swarm: {
      NodeID: "",
      NodeAddr: "",
      LocalNodeState: "inactive",
      ControlAvailable: false,
      Error: "",
      RemoteManagers: null,
    },
    // containers go on running while the daemon is away
    LiveRestoreEnabled: true,
    Isolation: "",
    InitBinary: "tini",
    ContainerdCommit: { ID: "", Expected: "" },
    RuncCommit: { ID: facts.programs.runc ?? "", Expected: facts.programs.runc ?? "" },
    InitCommit: { ID: "", Expected: "" },
    SecurityOptions: ["name=seccomp,profile=builtin"],
    CDISpecDirs: [],
    Warnings: facts.warnings.length > 0 ? facts.warnings : null,
  };
}

function machineJson(): object {
  const host = hostFacts();
  return {
    MemoryLimit: true,
    SwapLimit: true,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: host.ipForwarding,
    BridgeNfIptables: true,
    BridgeNfIp6tables: true,
    CgroupDriver: "cgroupfs",
    CgroupVersion: host.cgroupVersion,
    KernelVersion: host.kernelVersion,
    OperatingSystem: host.operatingSystem,
    OSVersion: host.osVersion,
    OSType: "linux",
    Architecture: host.machine,
    NCPU: host.cpus,
    MemTotal: host.memory,
    Name: host.name,
  };
}

function registryJson(insecure: readonly string[]): object {
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    InsecureRegistryCIDRs: ["127.0.0.0/8"],
    IndexConfigs: Object.fromEntries([
      ["docker.io", { Name: "docker.io", Mirrors: [], Secure: true, Official: true }],
      ...insecure.map((name) => [name, { Name: name, Mirrors: [], Secure: false, Official: false }]),
    ]),
    Mirrors: null,
  };
}
