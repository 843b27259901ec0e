/**
 * The contract of the network store: networks as records. `bridge`, `host` and `none` are always there; others are made
 * and removed by people. They carry no traffic yet: a container has loopback, or the host's network.
 */

export type Network = {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  /** RFC 3339. */
  readonly created: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly enableIPv6: boolean;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** As the client gave it, shown again. */
  readonly ipam: Readonly<Record<string, unknown>>;
};

export type NewNetwork = Omit<Network, "id" | "created">;
export type NetworkFilters = ReadonlyMap<string, readonly string[]>;

/** A container on a network. */
export type NetworkUser = { readonly id: string; readonly name: string };

/** What the store asks of the containers: each with the names or ids of the networks it was made with. */
export type NetworkedContainer = NetworkUser & { readonly networks: readonly string[] };

export interface NetworkStore {
  /** conflict when the name is taken; unsupported for drivers other than `bridge`. */
  create(network: NewNetwork): Promise<Network>;
  /** By name, id or unique id prefix. Throws not_found "network x not found". */
  get(nameOrId: string): Network;
  /** Filters driver, id, label, name, scope, type, dangling; others are invalid_argument. */
  list(filters?: NetworkFilters): readonly Network[];
  users(network: Network): readonly NetworkUser[];
  connect(nameOrId: string, container: string, settings: Readonly<Record<string, unknown>>): Promise<void>;
  /** Throws not_found unless the container was connected. */
  disconnect(nameOrId: string, container: string): Promise<void>;
  /** forbidden for a predefined network, or one in use. */
  remove(nameOrId: string): Promise<void>;
  /** Removes networks that people made and no container uses (filters label, label!, until); returns names. */
  prune(filters: NetworkFilters): Promise<readonly string[]>;
}
