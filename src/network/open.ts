/** Opens the network store. The predefined networks (bridge, host, none) are rows like all others, made at first start. */
import { randomBytes } from "node:crypto";
import { EngineError, isError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import type { Database, Row, Schema, Statement } from "../metadata/database.ts";
import { listFilter, pruneFilter } from "./filters.ts";
import type { Network, NetworkFilters, NetworkStore, NetworkUsers, NewNetwork } from "./store.ts";

export const networkSchema: Schema = {
  store: "network",
  steps: [
    `CREATE TABLE network (
       id TEXT PRIMARY KEY,
       name TEXT NOT NULL UNIQUE,
       driver TEXT NOT NULL,
       created TEXT NOT NULL,
       internal INTEGER NOT NULL CHECK (internal IN (0, 1)),
       options TEXT NOT NULL,
       labels TEXT NOT NULL,
       ipam TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE network_container (
       network TEXT NOT NULL REFERENCES network (id),
       container TEXT NOT NULL,
       PRIMARY KEY (network, container)
     ) STRICT, WITHOUT ROWID;`,
  ],
};

/** Name -> driver of the networks that are always there. */
const predefined: ReadonlyMap<string, string> = new Map([
  ["bridge", "bridge"],
  ["host", "host"],
  ["none", "null"],
]);

export async function openNetworkStore(options: {
  readonly database: Database;
  readonly events: EventBus;
}): Promise<NetworkStore> {
  const { database, events } = options;
  const missing = [...predefined].filter(([name]) => findBy(database, "name", name) === undefined);
  await database.transact(missing.map(([name, driver]) => insert(newNetwork({ name, driver }))));
  return new OpenNetworkStore(database, events);
}

class OpenNetworkStore implements NetworkStore {
  readonly #database: Database;
  readonly #events: EventBus;

  constructor(database: Database, events: EventBus) {
    this.#database = database;
    this.#events = events;
  }

  async create(request: NewNetwork): Promise<Network> {
    const network = newNetwork(request);
    if (network.name === "") throw new EngineError("invalid_argument", "network name cannot be empty");
    if (predefined.has(network.name))
      throw new EngineError("forbidden", `operation is not permitted on predefined ${network.name} network`);
    if (network.driver === "host" || network.driver === "null")
      throw new EngineError("forbidden", `only one instance of "${network.driver}" network is allowed`);
    if (network.driver !== "bridge") throw new EngineError("not_found", `plugin "${network.driver}" not found`);
    if (findBy(this.#database, "name", network.name) !== undefined) throw nameTaken(network.name);
    await this.#database.transact([insert(network)]).catch((cause: unknown) => {
      throw isError(cause, "conflict") ? nameTaken(network.name) : cause;
    });
    this.#tell("create", network);
    return network;
  }

  get(nameOrId: string): Network {
    const exact = findBy(this.#database, "name", nameOrId) ?? findBy(this.#database, "id", nameOrId);
    if (exact !== undefined) return exact;
    const matches = /^[a-f0-9]+$/.test(nameOrId) ? this.list().filter(({ id }) => id.startsWith(nameOrId)) : [];
    const [match] = matches;
    if (matches.length > 1)
      throw new EngineError("invalid_argument", `network ${nameOrId} is ambiguous (${matches.length} matches found)`);
    if (match === undefined) throw new EngineError("not_found", `network ${nameOrId} not found`);
    return match;
  }

  list(filters: NetworkFilters = new Map()): readonly Network[] {
    const rows = this.#database.all("SELECT * FROM network ORDER BY name");
    const passes = listFilter(filters, (network) => predefined.has(network.name));
    return rows.map((row) => decode(this.#database, row)).filter(passes);
  }

  async connect(nameOrId: string, container: string): Promise<void> {
    const network = this.get(nameOrId);
    if (network.driver === "host" || network.driver === "null")
      throw new EngineError(
        "forbidden",
        `container cannot be connected to ${network.name} network after it was created`,
      );
    if (network.containers.includes(container))
      throw new EngineError("forbidden", `endpoint of ${container} already exists in network ${network.name}`);
    const sql = "INSERT OR IGNORE INTO network_container (network, container) VALUES (?, ?)";
    await this.#database.transact([{ sql, parameters: [network.id, container] }]);
    this.#tell("connect", network, { container });
  }

  async disconnect(nameOrId: string, container: string): Promise<void> {
    const network = this.get(nameOrId);
    if (!network.containers.includes(container))
      throw new EngineError("forbidden", `container ${container} is not connected to network ${network.name}`);
    const sql = "DELETE FROM network_container WHERE network = ? AND container = ?";
    await this.#database.transact([{ sql, parameters: [network.id, container] }]);
    this.#tell("disconnect", network, { container });
  }

  async forget(container: string): Promise<void> {
    const sql = "DELETE FROM network_container WHERE container = ?";
    await this.#database.transact([{ sql, parameters: [container] }]);
  }

  async remove(nameOrId: string, usedBy: NetworkUsers = () => []): Promise<void> {
    const network = this.get(nameOrId);
    if (predefined.has(network.name))
      throw new EngineError("forbidden", `${network.name} is a pre-defined network and cannot be removed`);
    const inUse = (): EngineError =>
      new EngineError(
        "forbidden",
        `error while removing network: network ${network.name} id ${network.id} has active endpoints`,
      );
    if (network.containers.length > 0 || usedBy(network).length > 0) throw inUse();
    const sql = "DELETE FROM network WHERE id = ? AND NOT EXISTS (SELECT 1 FROM network_container WHERE network = id)";
    await this.#database.transact([{ sql, parameters: [network.id], changes: 1 }]).catch((cause: unknown) => {
      throw isError(cause, "conflict") ? inUse() : cause;
    });
    this.#tell("destroy", network);
  }

  async prune(filters: NetworkFilters, usedBy: NetworkUsers = () => []): Promise<readonly string[]> {
    const passes = pruneFilter(filters);
    const removed: string[] = [];
    for (const network of this.list()) {
      if (predefined.has(network.name) || !passes(network)) continue;
      if (network.containers.length > 0 || usedBy(network).length > 0) continue;
      await this.remove(network.id, usedBy);
      removed.push(network.name);
    }
    this.#events.emit("network", "prune", "", { reclaimed: "0" });
    return removed;
  }

  #tell(action: string, network: Network, more: Readonly<Record<string, string>> = {}): void {
    this.#events.emit("network", action, network.id, { name: network.name, type: network.driver, ...more });
  }
}

const nameTaken = (name: string): EngineError =>
  new EngineError("conflict", `network with name ${name} already exists`);

function newNetwork(request: NewNetwork): Network {
  return {
    id: randomBytes(32).toString("hex"),
    name: request.name,
    driver: request.driver === undefined || request.driver === "" ? "bridge" : request.driver,
    created: new Date().toISOString(),
    internal: request.internal ?? false,
    options: request.options ?? {},
    labels: request.labels ?? {},
    ipam: request.ipam ?? {},
    containers: [],
  };
}

function insert({ id, name, driver, created, internal, options, labels, ipam }: Network): Statement {
  const json = [options, labels, ipam].map((value) => JSON.stringify(value));
  return {
    sql: "INSERT INTO network (id, name, driver, created, internal, options, labels, ipam) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    parameters: [id, name, driver, created, internal ? 1 : 0, ...json],
    changes: 1,
  };
}

function findBy(database: Database, column: "id" | "name", value: string): Network | undefined {
  const row = database.get(`SELECT * FROM network WHERE ${column} = ?`, value);
  return row === undefined ? undefined : decode(database, row);
}

function decode(database: Database, row: Row): Network {
  const containers = database.all("SELECT container FROM network_container WHERE network = ?", String(row.id));
  const stringsOf = (value: unknown): Record<string, string> =>
    Object.fromEntries(Object.entries(objectOf(value)).map(([key, item]) => [key, String(item)]));
  return {
    id: String(row.id),
    name: String(row.name),
    driver: String(row.driver),
    created: String(row.created),
    internal: row.internal === 1,
    options: stringsOf(row.options),
    labels: stringsOf(row.labels),
    ipam: objectOf(row.ipam),
    containers: containers.map(({ container }) => String(container)),
  };
}

function objectOf(text: unknown): Readonly<Record<string, unknown>> {
  const value: unknown = JSON.parse(String(text));
  return typeof value === "object" && value !== null ? { ...value } : {};
}
