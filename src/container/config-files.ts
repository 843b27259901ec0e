/**
 * The three files that the engine puts into every container: `hostname`, `hosts` and `resolv.conf`, in
 * `<root>/containers/<id>/`, written anew at each start and bound over /etc.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import type { HostConfig } from "./container.ts";
import type { ContainerRecord } from "./record.ts";

const localNames = [
  "127.0.0.1\tlocalhost",
  "::1\tlocalhost ip6-localhost ip6-loopback",
  "fe00::\tip6-localnet",
  "ff00::\tip6-mcastprefix",
  "ff02::1\tip6-allnodes",
  "ff02::2\tip6-allrouters",
];

/** Where the files of a container are. */
export function configPaths(directory: string): Pick<ContainerRecord, "hostnamePath" | "hostsPath" | "resolvConfPath"> {
  return {
    hostnamePath: join(directory, "hostname"),
    hostsPath: join(directory, "hosts"),
    resolvConfPath: join(directory, "resolv.conf"),
  };
}

export const usesHostNetwork = (host: HostConfig): boolean => host.NetworkMode === "host";

/** The line of `name:address` (or `name=address`). Throws invalid_argument with Docker's texts. */
export function hostLine(extra: string): string {
  const at = extra.search(/[:=]/);
  const [name, address] = [extra.slice(0, at), extra.slice(at + 1).replace(/^\[(.*)\]$/, "$1")];
  if (at <= 0 || /\s/.test(name))
    throw new EngineError("invalid_argument", `bad format for add-host: ${JSON.stringify(extra)}`);
  if (address === "host-gateway")
    throw new EngineError("unsupported", "host-gateway is not supported: containers have no bridge to the host");
  if (isIP(address) === 0)
    throw new EngineError("invalid_argument", `invalid IP address in add-host: ${JSON.stringify(address)}`);
  return `${address}\t${name}`;
}

export function hostsFile(host: HostConfig, ofMachine: string): string {
  const extra = (host.ExtraHosts ?? []).map(hostLine);
  const lines = usesHostNetwork(host) ? [ofMachine.replace(/\n$/, "")] : localNames;
  return `${[...lines, ...extra].join("\n")}\n`;
}

/** The machine's own file, with what the container's options put in its place. */
export function resolvConf(host: HostConfig, ofMachine: string): string {
  const given = { nameserver: host.Dns ?? [], search: host.DnsSearch ?? [], options: host.DnsOptions ?? [] };
  const kept = ofMachine.split("\n").filter((line) => {
    const [key = ""] = line.trim().split(/\s+/);
    if (key === "nameserver") return given.nameserver.length === 0;
    if (key === "search" || key === "domain") return given.search.length === 0;
    return key === "options" ? given.options.length === 0 : key !== "";
  });
  const search = given.search.filter((domain) => domain !== ".");
  const lines = [...kept, ...given.nameserver.map((server) => `nameserver ${server}`)];
  if (search.length > 0) lines.push(`search ${search.join(" ")}`);
  if (given.options.length > 0) lines.push(`options ${given.options.join(" ")}`);
  return `${lines.join("\n")}\n`;
}

/** Throws invalid_argument for what could not be written into the files. */
export function checkNames(host: HostConfig): void {
  for (const extra of host.ExtraHosts ?? []) hostLine(extra);
  for (const server of host.Dns ?? [])
    if (isIP(server) === 0) throw new EngineError("invalid_argument", `invalid IP address: ${server}`);
  for (const word of [...(host.DnsSearch ?? []), ...(host.DnsOptions ?? [])])
    if (/[\s\0]/.test(word)) throw new EngineError("invalid_argument", `invalid DNS setting: ${JSON.stringify(word)}`);
}

async function readMachineFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return "";
    throw error;
  }
}

/** The name that the container sees: its own, or the machine's where it shares the machine's. */
export function hostnameOf(record: Pick<ContainerRecord, "config" | "id">): string {
  return record.config.Hostname || record.id.slice(0, 12);
}

export const machineName = hostname;

export async function writeConfigFiles(record: ContainerRecord, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o710 });
  const [hosts, resolv] = await Promise.all([readMachineFile("/etc/hosts"), readMachineFile("/etc/resolv.conf")]);
  const { hostConfig } = record;
  await Promise.all([
    writeFile(record.hostnamePath, `${hostnameOf(record)}\n`, { mode: 0o644 }),
    writeFile(record.hostsPath, hostsFile(hostConfig, hosts), { mode: 0o644 }),
    writeFile(record.resolvConfPath, resolvConf(hostConfig, resolv), { mode: 0o644 }),
  ]);
}
