/** Events as the API shows them, and the filters of `docker events`. */
import type { EngineEvent } from "../../base/events.ts";

export type Filters = ReadonlyMap<string, readonly string[]>;

/** Milliseconds with a fraction as whole nanoseconds; past 2^53, so the last digits are those of a double. */
const nanoseconds = (time: number): string =>
  (BigInt(Math.trunc(time)) * 1_000_000n + BigInt(Math.trunc((time % 1) * 1e6))).toString();

/** One line of `GET /events`; containers and images carry the members that clients before 1.22 read. */
export function eventLine(event: EngineEvent): string {
  const from = event.type === "container" ? { from: event.attributes.image ?? "" } : {};
  const legacy =
    event.type === "container" || event.type === "image" ? { status: event.action, id: event.id, ...from } : {};
  const head = JSON.stringify({
    ...legacy,
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.id, Attributes: event.attributes },
    scope: "local",
    time: Math.trunc(event.time / 1000),
  });
  return `${head.slice(0, -1)},"timeNano":${nanoseconds(event.time)}}\n`;
}

type Maker = (event: EngineEvent, values: readonly string[]) => boolean;

/** `type=x`, or a filter named after a type: the id, its beginning, or the name of what the event is about. */
function about(type: EngineEvent["type"]): Maker {
  return (event, values) =>
    event.type === type &&
    values.some((value) => event.id === value || event.attributes.name === value || isPrefix(event, value));
}

const isPrefix = (event: EngineEvent, value: string): boolean =>
  value.length > 3 && (event.id.startsWith(value) || event.id.startsWith(`sha256:${value}`));

function hasLabel({ attributes }: EngineEvent, wanted: string): boolean {
  const [key = ""] = wanted.split("=", 1);
  if (!Object.hasOwn(attributes, key)) return false;
  return !wanted.includes("=") || attributes[key] === wanted.slice(key.length + 1);
}

/** `exec_create: sh -c x` is found by `exec_create`. */
const isAction = (event: EngineEvent, value: string): boolean =>
  event.action === value || event.action.startsWith(`${value}:`);

function aboutImage(event: EngineEvent, values: readonly string[]): boolean {
  const name = event.attributes[event.type === "image" ? "name" : "image"] ?? "";
  const repository = name.replace(/:[^/:]*$/, "");
  return values.some((value) => event.id === value || name === value || repository === value || isPrefix(event, value));
}

const makers: Readonly<Record<string, Maker>> = {
  type: (event, values) => values.includes(event.type),
  event: (event, values) => values.some((value) => isAction(event, value)),
  label: (event, values) => values.every((value) => hasLabel(event, value)),
  scope: (_event, values) => values.includes("local"),
  container: about("container"),
  volume: about("volume"),
  network: about("network"),
  daemon: about("daemon"),
  builder: about("builder"),
  image: aboutImage,
};

/** Names that `GET /events` takes. */
export const eventFilters: ReadonlySet<string> = new Set(Object.keys(makers));

export function matchesEvent(event: EngineEvent, filters: Filters): boolean {
  return [...filters].every(([key, values]) => values.length === 0 || makers[key]?.(event, values) === true);
}
