/** The network store over the metadata database: reads are synchronous, every change is one transaction. */
import { randomBytes } from "node:crypto";
import { EngineError } from "../base/errors.ts";
import type { EventBus } from "../base/events.ts";
import type { Database, Row, Statement } from "../metadata/database.ts";
import { listTest, predefined, pruneTest } from "./filters.ts";
import type { Network, NetworkedContainer, NetworkFilters, NetworkStore, NetworkUser, NewNetwork } from "./store.ts";

export type NetworkStoreParts = {
  readonly database: Database;
  readonly events: EventBus;
  /** Every container; asked when a network's users are. */
  readonly containers: () => readonly NetworkedContainer[];
};

const drivers: Readonly<Record<string, string>> = { bridge: "bridge", host: "host", none: "null" };
const plain = { internal: false, attachable: false, enableIPv6: false, options: {}, labels: {}, ipam: {} };
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** The predefined networks exist when it resolves; their ids stay. */
export async function openNetworkStore(parts: NetworkStoreParts): Promise<NetworkStore> {
  const { database } = parts;
  const missing = [...predefined].filter((name) => !database.get("SELECT id FROM network WHERE name = ?", name));
  await database.transact(missing.map((name) => insert(made({ ...plain, name, driver: drivers[name] ?? name }))));
  return new StoredNetworks(parts);
}

function made(network: NewNetwork): Network {
  return { ...network, id: randomBytes(32).toString("hex"), created: new Date().toISOString() };
}

function insert({ id, name, driver, created, ...details }: Network): Statement {
  return {
    sql: "INSERT INTO network (id, name, driver, created_at, details) VALUES (?, ?, ?, ?, ?)",
    parameters: [id, name, driver, created, JSON.stringify(details)],
  };
}

function decode(row: Row): Network {
  const details = JSON.parse(String(row.details)) as Omit<Network, "id" | "name" | "driver" | "created">;
  return {
    id: String(row.id),
    name: String(row.name),
    driver: String(row.driver),
    created: String(row.created_at),
    ...details,
  };
}

class StoredNetworks implements NetworkStore {
  readonly #parts: NetworkStoreParts;

  constructor(parts: NetworkStoreParts) {
    this.#parts = parts;
  }

  async create(request: NewNetwork): Promise<Network> {
    const driver = request.driver === "" ? "bridge" : request.driver;
    if (driver !== "bridge")
      throw new EngineError("unsupported", `the network driver ${JSON.stringify(driver)} is not supported: use bridge`);
    if (!namePattern.test(request.name))
      throw new EngineError(
        "invalid_argument",
        `invalid network name: ${JSON.stringify(request.name)}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
      );
    const network = made({ ...request, driver });
    if (this.#find(network.name) !== undefined) throw nameTaken(network.name);
    await this.#parts.database.transact([insert(network)]);
    this.#emit("create", network);
    return network;
  }

  get(nameOrId: string): Network {
    const found = this.#find(nameOrId) ?? this.#findByPrefix(nameOrId);
    if (found === undefined) throw new EngineError("not_found", `network ${nameOrId} not found`);
    return found;
  }

  list(filters: NetworkFilters = new Map()): readonly Network[] {
    const test = listTest(filters, (network) => this.users(network).length > 0);
    return this.#parts.database.all("SELECT * FROM network ORDER BY created_at, name").map(decode).filter(test);
  }

  users({ id, name }: Network): readonly NetworkUser[] {
    const rows = this.#parts.database.all("SELECT container FROM network_endpoint WHERE network = ?", id);
    const connected = new Set(rows.map(({ container }) => String(container)));
    return this.#parts
      .containers()
      .filter((user) => connected.has(user.id) || user.networks.includes(name) || user.networks.includes(id))
      .map((user) => ({ id: user.id, name: user.name }));
  }

  async connect(nameOrId: string, container: string, settings: Readonly<Record<string, unknown>>): Promise<void> {
    const network = this.get(nameOrId);
    if (network.name === "host")
      throw new EngineError(
        "forbidden",
        "container cannot be connected to host network: use --network host when it is made",
      );
    if (this.users(network).some(({ id }) => id === container))
      throw new EngineError("forbidden", `endpoint with name ${container} already exists in network ${network.name}`);
    await this.#parts.database.transact([
      {
        sql: "INSERT INTO network_endpoint (network, container, settings) VALUES (?, ?, ?)",
        parameters: [network.id, container, JSON.stringify(settings)],
      },
    ]);
    this.#emit("connect", network, { container });
  }

  async disconnect(nameOrId: string, container: string): Promise<void> {
    const network = this.get(nameOrId);
    const row = this.#parts.database.get(
      "SELECT container FROM network_endpoint WHERE network = ? AND container = ?",
      network.id,
      container,
    );
    if (row === undefined)
      throw new EngineError("not_found", `container ${container} is not connected to network ${network.name}`);
    await this.#parts.database.transact([
      { sql: "DELETE FROM network_endpoint WHERE network = ? AND container = ?", parameters: [network.id, container] },
    ]);
    this.#emit("disconnect", network, { container });
  }

  async remove(nameOrId: string): Promise<void> {
    const network = this.get(nameOrId);
    if (predefined.has(network.name))
      throw new EngineError("forbidden", `${network.name} is a pre-defined network and cannot be removed`);
    const users = this.users(network);
    if (users.length > 0) {
      const names = users.map(({ name }) => name).join(", ");
      throw new EngineError(
        "forbidden",
        `error while removing network: network ${network.name} has active endpoints (${names})`,
      );
    }
    await this.#delete(network);
  }

  async prune(filters: NetworkFilters): Promise<readonly string[]> {
    const test = pruneTest(filters);
    const unused = this.list().filter(
      (network) => !predefined.has(network.name) && test(network) && this.users(network).length === 0,
    );
    for (const network of unused) await this.#delete(network);
    return unused.map(({ name }) => name);
  }

  async #delete(network: Network): Promise<void> {
    await this.#parts.database.transact([
      { sql: "DELETE FROM network_endpoint WHERE network = ?", parameters: [network.id] },
      { sql: "DELETE FROM network WHERE id = ?", parameters: [network.id] },
    ]);
    this.#emit("destroy", network);
  }

  #find(nameOrId: string): Network | undefined {
    const row = this.#parts.database.get("SELECT * FROM network WHERE name = ?1 OR id = ?1", nameOrId);
    return row === undefined ? undefined : decode(row);
  }

  #findByPrefix(prefix: string): Network | undefined {
    if (!/^[a-f0-9]{1,64}$/.test(prefix)) return undefined;
    const rows = this.#parts.database.all(
      "SELECT * FROM network WHERE substr(id, 1, ?2) = ?1 LIMIT 2",
      prefix,
      prefix.length,
    );
    const [row, ...more] = rows;
    return row === undefined || more.length > 0 ? undefined : decode(row);
  }

  #emit(action: string, { id, name, driver }: Network, more: Readonly<Record<string, string>> = {}): void {
    this.#parts.events.emit("network", action, id, { name, type: driver, ...more });
  }
}

const nameTaken = (name: string): EngineError =>
  new EngineError("conflict", `network with name ${name} already exists`);
