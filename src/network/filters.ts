/** Filters of `network ls` and `network prune`. Pure. */
import { EngineError } from "../base/errors.ts";
import type { Network, NetworkFilters } from "./store.ts";

type NetworkTest = (network: Network) => boolean;

const hasLabel = (network: Network, label: string): boolean => {
  const [key = "", ...value] = label.split("=");
  if (!Object.hasOwn(network.labels, key)) return false;
  return value.length === 0 || network.labels[key] === value.join("=");
};

/** Throws invalid_argument for unknown keys and types. */
export function listFilter(filters: NetworkFilters, isBuiltin: NetworkTest): NetworkTest {
  const types = filters.get("type") ?? [];
  for (const type of types)
    if (type !== "builtin" && type !== "custom")
      throw new EngineError("invalid_argument", `invalid filter: 'type'='${type}'`);
  const tests: Readonly<Record<string, (network: Network, value: string) => boolean>> = {
    driver: (network, value) => network.driver === value,
    id: (network, value) => network.id.startsWith(value),
    name: (network, value) => network.name.includes(value),
    scope: (_, value) => value === "local",
    type: (network, value) => (value === "builtin") === isBuiltin(network),
    label: hasLabel,
  };
  for (const key of filters.keys())
    if (!Object.hasOwn(tests, key)) throw new EngineError("invalid_argument", `invalid filter '${key}'`);
  return (network) =>
    [...filters].every(([key, values]) => {
      const test = (value: string): boolean => tests[key]?.(network, value) === true;
      return values.length === 0 || (key === "label" ? values.every(test) : values.some(test));
    });
}

export function pruneFilter(filters: NetworkFilters): NetworkTest {
  for (const key of filters.keys())
    if (key !== "label" && key !== "label!") throw new EngineError("invalid_argument", `invalid filter '${key}'`);
  const without = filters.get("label!") ?? [];
  return (network) =>
    (filters.get("label") ?? []).every((label) => hasLabel(network, label)) &&
    (without.length === 0 || !without.every((label) => hasLabel(network, label)));
}
