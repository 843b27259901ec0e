/** Filters of `network ls` and `network prune`, with Docker's meaning. */
import { EngineError } from "../base/errors.ts";
import type { Network, NetworkFilters } from "./store.ts";

export type NetworkTest = (network: Network) => boolean;
type Maker = (values: readonly string[], used: NetworkTest) => NetworkTest;

export const predefined: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);

function hasLabel({ labels }: Network, wanted: string): boolean {
  const equals = wanted.indexOf("=");
  const key = equals < 0 ? wanted : wanted.slice(0, equals);
  return Object.hasOwn(labels, key) && (equals < 0 || labels[key] === wanted.slice(equals + 1));
}

function isDangling(values: readonly string[]): boolean {
  const [value, ...more] = values;
  if (more.length > 0 || !/^(?:0|1|true|false)$/i.test(value ?? "")) throw invalid("invalid filter 'dangling'");
  return /^(?:1|true)$/i.test(value ?? "");
}

function byType(values: readonly string[]): NetworkTest {
  for (const value of values)
    if (value !== "custom" && value !== "builtin") throw invalid(`invalid filter: 'type'='${value}'`);
  return ({ name }) => values.includes(predefined.has(name) ? "builtin" : "custom");
}

const listMakers: Readonly<Record<string, Maker>> = {
  driver: (values) => (network) => values.includes(network.driver),
  id: (values) => (network) => values.some((value) => network.id.startsWith(value)),
  name: (values) => (network) => values.some((value) => network.name.includes(value)),
  label: (values) => (network) => values.every((value) => hasLabel(network, value)),
  scope: (values) => () => values.includes("local"),
  type: byType,
  dangling: (values, used) => {
    const wanted = isDangling(values);
    return (network) => (!predefined.has(network.name) && !used(network)) === wanted;
  },
};

const pruneMakers: Readonly<Record<string, Maker>> = {
  label: (values) => (network) => values.every((value) => hasLabel(network, value)),
  "label!": (values) => (network) => !values.every((value) => hasLabel(network, value)),
  until: (values) => {
    const [text = "", ...more] = values;
    const limit = untilOf(text);
    if (more.length > 0 || Number.isNaN(limit)) throw invalid(`invalid filter 'until=${values.join(",")}'`);
    return ({ created }) => Date.parse(created) < limit;
  },
};

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** Unix seconds, RFC 3339, or how long ago ("1h30m"), in milliseconds; NaN for anything else. */
function untilOf(text: string): number {
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  if (!/^(?:\d+[smh])+$/.test(text)) return Date.parse(text);
  const parts = [...text.matchAll(/(\d+)([smh])/g)];
  return Date.now() - parts.reduce((sum, part) => sum + Number(part[1]) * (units[part[2] ?? ""] ?? 0), 0);
}

function testOf(makers: Readonly<Record<string, Maker>>, filters: NetworkFilters, used: NetworkTest): NetworkTest {
  const tests: NetworkTest[] = [];
  for (const [key, values] of filters) {
    const maker = Object.hasOwn(makers, key) ? makers[key] : undefined;
    if (maker === undefined) throw invalid(`invalid filter '${key}'`);
    if (values.length > 0) tests.push(maker(values, used));
  }
  return (network) => tests.every((test) => test(network));
}

/** `used` tells whether a container is on a network. */
export const listTest = (filters: NetworkFilters, used: NetworkTest): NetworkTest => testOf(listMakers, filters, used);
export const pruneTest = (filters: NetworkFilters): NetworkTest => testOf(pruneMakers, filters, () => false);
