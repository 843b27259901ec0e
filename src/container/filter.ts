/**
 * Filters of `ps` and `container prune`, with Docker's meaning: values of one key are alternatives (labels: all must hold),
 * keys must all hold. An unknown key is invalid_argument "invalid filter 'x'".
 */
import { EngineError } from "../base/errors.ts";
import type { Container, ContainerStatus, Filters } from "./container.ts";

const statuses: readonly ContainerStatus[] = [
  "created",
  "running",
  "paused",
  "restarting",
  "removing",
  "exited",
  "dead",
];
const healths: readonly string[] = ["starting", "healthy", "unhealthy", "none"];

/** What a filter asks beyond the container itself. */
export type FilterWorld = {
  /** Throws not_found for an unknown container. */
  readonly find: (nameOrId: string) => Container;
  /** Ids of the image and of every image built from it; empty for an unknown one. */
  readonly ancestors: (image: string) => ReadonlySet<string>;
};

export type Predicate = (container: Container) => boolean;
type Maker = (values: readonly string[], world: FilterWorld) => Predicate;

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);

function oneOf(key: string, values: readonly string[], allowed: readonly string[]): void {
  for (const value of values) if (!allowed.includes(value)) throw invalid(`invalid filter '${key}=${value}'`);
}

/** Docker matches by regular expression; a pattern that could run for ever (repeated groups, many repetitions) is refused. */
function matcher(key: string, pattern: string): (text: string) => boolean {
  if (/\)[*+{?]/.test(pattern) || (pattern.match(/[*+?{]/g) ?? []).length > 3)
    throw invalid(`invalid filter '${key}=${pattern}': use a simpler pattern`);
  try {
    const expression = new RegExp(pattern, "u");
    return (text) => text === pattern || expression.test(text);
  } catch (cause) {
    throw new EngineError("invalid_argument", `invalid filter '${key}=${pattern}'`, { cause });
  }
}

/** `key` or `key=value` against labels. */
export function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const [key = "", ...rest] = wanted.split("=");
  if (!Object.hasOwn(labels, key)) return false;
  return !wanted.includes("=") || labels[key] === rest.join("=");
}

/** `80`, `80/udp`, `80-90/tcp`, as a test of what a container exposes (`80/tcp`). */
function exposes(wanted: string): (ports: readonly string[]) => boolean {
  const match = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/.exec(wanted);
  if (match === null) throw invalid(`invalid filter 'expose=${wanted}'`);
  const [low, high] = [Number(match[1]), Number(match[2] ?? match[1])];
  return (ports) =>
    ports.some((port) => {
      const [number = "", protocol = "tcp"] = port.split("/");
      return Number(number) >= low && Number(number) <= high && protocol === (match[3] ?? "tcp");
    });
}

function exited(values: readonly string[]): Predicate {
  for (const value of values) if (!/^-?\d+$/.test(value)) throw invalid(`invalid filter 'exited=${value}'`);
  return ({ state }) =>
    (state.status === "exited" || state.status === "dead") && values.some((value) => Number(value) === state.exitCode);
}

/** Docker keeps containers made before (after) the named one. */
function created(direction: "before" | "since"): Maker {
  return (values, world) => {
    const times = values.map((value) => world.find(value).created);
    return (container) =>
      times.every((time) => (direction === "before" ? container.created < time : container.created > time));
  };
}

function isTask(values: readonly string[]): Predicate {
  oneOf("is-task", values, ["true", "false", "1", "0"]);
  // No container here belongs to a swarm task.
  return () => values.some((value) => value === "false" || value === "0");
}

const networkOf = (container: Container): readonly string[] => {
  const mode = container.hostConfig.NetworkMode ?? "";
  return [mode === "" || mode === "default" ? "bridge" : mode, ...Object.keys(container.networks)];
};

const makers: Readonly<Record<string, Maker>> = {
  id: (values) => {
    const tests = values.map((value) => matcher("id", value));
    return ({ id }) => tests.some((test) => test(id));
  },
  name: (values) => {
    const tests = values.map((value) => matcher("name", value));
    return ({ name }) => tests.some((test) => test(name) || test(`/${name}`));
  },
  label: (values) => (container) => values.every((value) => hasLabel(container.config.Labels ?? {}, value)),
  status: (values) => {
    oneOf("status", values, statuses);
    return (container) => values.includes(container.state.status);
  },
  // Health checks are recorded, never run: a container's health is `none`.
  health: (values) => {
    oneOf("health", values, healths);
    return () => values.includes("none");
  },
  exited,
  before: created("before"),
  since: created("since"),
  ancestor: (values, world) => {
    const images = values.map((value) => world.ancestors(value));
    return ({ imageId }) => imageId !== undefined && images.some((ids) => ids.has(imageId));
  },
  volume: (values) => (container) =>
    container.mounts.some((mount) => values.includes(mount.name ?? "") || values.includes(mount.destination)),
  network: (values) => (container) => networkOf(container).some((name) => values.includes(name)),
  expose: (values) => {
    const tests = values.map(exposes);
    return (container) => {
      const ports = Object.keys(container.config.ExposedPorts ?? {});
      return tests.some((test) => test(ports));
    };
  },
  // Nothing is ever published.
  publish: () => () => false,
  "is-task": isTask,
};

/** One predicate of all filters of `ps`. */
export function listPredicate(filters: Filters, world: FilterWorld): Predicate {
  const predicates: Predicate[] = [];
  for (const [key, values] of filters) {
    const maker = Object.hasOwn(makers, key) ? makers[key] : undefined;
    if (maker === undefined) throw invalid(`invalid filter '${key}'`);
    if (values.length > 0) predicates.push(maker(values, world));
  }
  return (container) => predicates.every((predicate) => predicate(container));
}

const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds since the epoch of `until`: RFC 3339, Unix seconds, or how long ago (`10m`, `1h30m`). */
export function parseUntil(text: string, now: number): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (/^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/.test(text)) {
    let ago = 0;
    for (const part of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)/g))
      ago += Number(part[1]) * (units[part[2] ?? ""] ?? 0);
    return now - ago;
  }
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw invalid(`invalid filter 'until=${text}'`);
  return time;
}

/** Which containers a prune may take: `until`, `label`, `label!`. */
export function prunePredicate(filters: Filters, now: number): Predicate {
  const predicates: Predicate[] = [];
  for (const [key, values] of filters) {
    const labelsOf = (container: Container): Readonly<Record<string, string>> => container.config.Labels ?? {};
    if (key === "label") predicates.push((container) => values.every((value) => hasLabel(labelsOf(container), value)));
    else if (key === "label!")
      predicates.push((container) => !values.every((value) => hasLabel(labelsOf(container), value)));
    else if (key === "until") {
      const [text, ...more] = values;
      if (text === undefined || more.length > 0) throw invalid("more than one until filter specified");
      const limit = parseUntil(text, now);
      predicates.push((container) => Date.parse(container.created) < limit);
    } else throw invalid(`invalid filter '${key}'`);
  }
  return (container) => predicates.every((predicate) => predicate(container));
}
