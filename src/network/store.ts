/**
 * The contract of the network store: networks as records, so that clients which create, list and remove them work. No
 * packet is moved: a container that joins a network of driver `bridge` has its own loopback and nothing else.
 */
export type Network = {
  /** 64 hex digits. */
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  /** RFC 3339. */
  readonly created: string;
  readonly internal: boolean;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly ipam: Readonly<Record<string, unknown>>;
  /** Ids of the containers connected to it by {@link NetworkStore.connect}. */
  readonly containers: readonly string[];
};

export type NewNetwork = {
  readonly name: string;
  /** Undefined or "": bridge. */
  readonly driver?: string | undefined;
  readonly internal?: boolean;
  readonly options?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly ipam?: Readonly<Record<string, unknown>>;
};

export type NetworkFilters = ReadonlyMap<string, readonly string[]>;

/** Containers that use a network besides those connected to it (by their network mode). */
export type NetworkUsers = (network: Network) => readonly string[];

export interface NetworkStore {
  /** Names are unique: conflict. The predefined names are forbidden. */
  create(network: NewNetwork): Promise<Network>;
  /** By name, id or unique id prefix. Throws not_found "network x not found". */
  get(nameOrId: string): Network;
  /** Filters driver, id, name, label, scope, type; others are invalid_argument. Sorted by name. */
  list(filters?: NetworkFilters): readonly Network[];
  connect(nameOrId: string, container: string): Promise<void>;
  disconnect(nameOrId: string, container: string): Promise<void>;
  /** A container that is gone: from every network. */
  forget(container: string): Promise<void>;
  /** Forbidden for predefined networks and while a container uses it. */
  remove(nameOrId: string, usedBy?: NetworkUsers): Promise<void>;
  /** Removes what nobody uses and returns the names. Filters label, label!. */
  prune(filters: NetworkFilters, usedBy?: NetworkUsers): Promise<readonly string[]>;
}
