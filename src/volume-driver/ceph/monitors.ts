/**
 * The monitors of a Ceph cluster, as people write them and as ceph-fuse is told: addresses alone, each with its protocol
 * and port. A monitor speaks v2 (port 3300), v1 (port 6789), or both; the form is that of `mon host` in ceph.conf:
 * `a`, `a:6789`, `v2:a:3300`, `[v2:a:3300/0,v1:a:6789/0]`, with an IPv6 address in brackets.
 */
import { isIP } from "node:net";
import { EngineError, isError } from "../../base/errors.ts";
import { runProgram } from "../../host/program.ts";
import { parseHost, refused } from "../share-options.ts";
import type { Door } from "./probe.ts";

type Protocol = "v1" | "v2";

/** Without a protocol and a port: both, at their usual ports. */
export type MonitorAddress = {
  /** A name, an IPv4 address, or an IPv6 address in brackets. */
  readonly host: string;
  readonly at: { readonly protocol: Protocol; readonly port: number } | undefined;
};

/** The addresses of one monitor. */
export type Monitor = readonly MonitorAddress[];

const usualPorts = { v1: 6789, v2: 3300 } as const;
const resolveDeadline = 20_000;
const addressPattern = /(?:(v[12]):)?(\[[^[\]]*\]|[^[\],;\s:/]+)(?::(\d{1,5}))?(?:\/\d{1,10})?/y;

/** Throws invalid_argument that names the option. */
export function parseMonitors(option: string, text: string): readonly Monitor[] {
  const monitors: Monitor[] = [];
  let at = 0;
  const isAt = (pattern: RegExp): boolean => pattern.test(text.slice(at));
  const next = (): MonitorAddress => {
    addressPattern.lastIndex = at;
    const found = addressPattern.exec(text);
    if (found === null) throw unreadable(option, text);
    at = addressPattern.lastIndex;
    return addressOf(option, found);
  };
  for (; isAt(/^[,;\s]/); at++);
  while (at < text.length) {
    const grouped = isAt(/^\[v[12]:/);
    if (grouped) at++;
    const monitor = [next()];
    for (; grouped && isAt(/^,/); monitor.push(next())) at++;
    if (grouped && !isAt(/^\]/)) throw unreadable(option, text);
    if (grouped) at++;
    monitors.push(monitor);
    if (!isAt(/^([,;\s]|$)/)) throw unreadable(option, text);
    for (; isAt(/^[,;\s]/); at++);
  }
  if (monitors.length === 0) throw unreadable(option, text);
  return monitors;
}

function addressOf(option: string, found: RegExpExecArray): MonitorAddress {
  const [whole, prefix, name = "", digits] = found;
  const host = parseHost(option, name);
  if (host.includes("%")) throw refused(`the option ${option} takes no interface in an address: ${host}`);
  const port = digits === undefined ? undefined : Number(digits);
  if (port === 0 || (port ?? 0) > 65535) throw refused(`the option ${option} has no port in ${whole}`);
  const protocol = (["v1", "v2"] as const).find((one) => (prefix ?? port) === (prefix ? one : usualPorts[one]));
  if (protocol !== undefined) return { host, at: { protocol, port: port ?? usualPorts[protocol] } };
  if (port === undefined) return { host, at: undefined };
  const words = `the option ${option} has the port ${port}, which is not 3300 (v2) or 6789 (v1)`;
  throw refused(`${words}: say which protocol is spoken there, v2:${host}:${port} or v1:${host}:${port}`);
}

const unreadable = (option: string, text: string): EngineError =>
  refused(
    `the option ${option} names no monitors: ${JSON.stringify(text)}; give addresses with commas between, such as 10.0.0.1,10.0.0.2:6789 or [v2:10.0.0.1:3300,v1:10.0.0.1:6789]`,
  );

/** As a user wrote them, shorter. */
export const namesOf = (monitors: readonly Monitor[]): string =>
  [...new Set(monitors.flat().map(({ host, at }) => (at === undefined ? host : `${host}:${at.port}`)))].join(", ");

/** The same with addresses alone: names become all of theirs, for ceph-fuse knows no names with protocols. */
export async function resolveMonitors(
  monitors: readonly Monitor[],
  signal: AbortSignal | undefined,
): Promise<readonly Monitor[]> {
  const known = new Map<string, readonly string[]>();
  for (const { host } of monitors.flat())
    if (!known.has(host)) known.set(host, isAddress(host) ? [host] : await addressesOf(host, signal));
  return monitors.flatMap((monitor) => {
    const named = monitor.map(({ host, at }) => (known.get(host) ?? []).map((ip) => ({ host: ip, at })));
    const [first] = monitor;
    // Several machines behind one name are several monitors.
    if (!monitor.every(({ host }) => host === first?.host)) return [named.flat()];
    return (named[0] ?? []).map((_, index) => named.flatMap((each) => each[index] ?? []));
  });
}

/** The words of `-m`. */
export const formatMonitors = (monitors: readonly Monitor[]): string =>
  monitors.map((monitor) => groupOf(monitor.map(wordOf))).join(",");

/** Where a monitor may answer. */
export const doorsOf = (monitors: readonly Monitor[]): readonly Door[] =>
  monitors
    .flat()
    .flatMap(({ host, at }) =>
      at === undefined
        ? (["v2", "v1"] as const).map((protocol) => ({ host, protocol, port: usualPorts[protocol] }))
        : [{ host, ...at }],
    );

const groupOf = (words: readonly string[]): string => (words.length === 1 ? `${words[0]}` : `[${words.join(",")}]`);
const wordOf = ({ host, at }: MonitorAddress): string =>
  at === undefined ? host : `${at.protocol}:${host}:${at.port}`;
const isAddress = (host: string): boolean => host.startsWith("[") || isIP(host) === 4;

/** A child asks: who serves names may take its time. */
async function addressesOf(host: string, signal: AbortSignal | undefined): Promise<readonly string[]> {
  const limits = { deadline: resolveDeadline, ...(signal === undefined ? {} : { signal }) };
  const { stdout } = await runProgram("getent", ["ahosts", host], limits).catch((error: unknown) => {
    if (isError(error, "deadline_exceeded")) return { stdout: "" };
    throw error;
  });
  const found = [...new Set(stdout.split("\n").map((line) => line.split(/\s/)[0] ?? ""))].filter(
    (ip) => isIP(ip) !== 0,
  );
  if (found.length > 0) return found.map((ip) => (isIP(ip) === 6 ? `[${ip}]` : ip));
  throw new EngineError("unavailable", `the monitor ${host} is not known: look at the name, or give its address`);
}
