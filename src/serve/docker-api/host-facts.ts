/** What `docker version` and `docker info` tell of the machine; read once, when first asked. */
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";

export type HostFacts = {
  readonly kernelVersion: string;
  /** Go's name of the architecture ("amd64"). */
  readonly arch: string;
  /** uname's name of the architecture ("x86_64"). */
  readonly machine: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly name: string;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  readonly cgroupVersion: "1" | "2";
  readonly ipForwarding: boolean;
};

const goArch: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

let known: HostFacts | undefined;

export function hostFacts(): HostFacts {
  known ??= readFacts();
  return known;
}

function readFacts(): HostFacts {
  const release = osRelease();
  return {
    kernelVersion: os.release(),
    arch: goArch[process.arch] ?? process.arch,
    machine: os.machine(),
    operatingSystem: release.get("PRETTY_NAME") ?? "Linux",
    osVersion: release.get("VERSION_ID") ?? "",
    name: os.hostname(),
    cpus: os.availableParallelism(),
    memory: os.totalmem(),
    cgroupVersion: existsSync("/sys/fs/cgroup/cgroup.controllers") ? "2" : "1",
    ipForwarding: readText("/proc/sys/net/ipv4/ip_forward").trim() === "1",
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** `KEY=value` and `KEY="value"` lines of os-release(5). */
function osRelease(): ReadonlyMap<string, string> {
  const text = readText("/etc/os-release") || readText("/usr/lib/os-release");
  const lines = [...text.matchAll(/^([A-Z_]+)=(?:"(.*)"|(.*))$/gm)];
  return new Map(lines.map(([, key = "", quoted, plain = ""]) => [key, quoted ?? plain]));
}
