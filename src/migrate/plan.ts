/** Everything that is looked at before anything is moved: from where, what stands in the way, who holds what. Changes nothing. */
import { type ChainId, parseChainId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { decodeRow, selectAll } from "../container/record.ts";
import { mountTable } from "../host/mount.ts";
import { readRoles } from "../layer/driver-roles.ts";
import type { Database } from "../metadata/database.ts";
import type { MigrateOptions, Sides } from "./migration.ts";

const conflict = (message: string): EngineError => new EngineError("conflict", message);

/** The driver whose data are moved; undefined when the target has them already. */
export function chooseSource(
  database: Database,
  { from, to }: Pick<MigrateOptions, "from" | "to">,
): string | undefined {
  const { current, arriving } = readRoles(database);
  const rows = database.all(
    "SELECT driver FROM layer_layers WHERE state = 'ready' UNION SELECT driver FROM layer_writables WHERE state = 'ready'",
  );
  const drivers = rows.map(({ driver }) => String(driver)).filter((name) => name !== to);
  const source = from ?? (arriving?.name === to ? arriving.source : current);
  if (source === to) {
    if (from === undefined) return undefined;
    throw new EngineError("invalid_argument", `the data are to be moved from ${to} to ${to}: name another driver`);
  }
  if (source !== undefined && (from === undefined || drivers.includes(source))) return source;
  if (source !== undefined) throw new EngineError("not_found", `${source} has no layers in this data root`);
  const [only, ...others] = drivers;
  if (others.length > 0)
    throw conflict(`several storage drivers have layers here (${drivers.join(", ")}): name one with --from`);
  if (only === undefined) throw new EngineError("not_found", "no other storage driver has layers in this data root");
  return only;
}

/** A container that runs changes what would be copied; it outlives its daemon, and its mount tells of it. */
export function refuseInUse(database: Database, source: string): void {
  const ids = new Set(
    database
      .all("SELECT id FROM layer_writables WHERE driver = ? AND state = 'ready'", source)
      .map(({ id }) => String(id)),
  );
  const used = mountTable().find(({ target }) => {
    const [, id = ""] = /\/layers\/([^/]+)$/.exec(target) ?? [];
    return ids.has(id) && !target.includes("/migrating/");
  });
  if (used !== undefined)
    throw conflict(
      `a container runs, or its layer is still mounted at ${used.target}: start the daemon, stop the container (docker stop), stop the daemon, and migrate then`,
    );
}

type Strangers = { readonly target: string; readonly source: string; readonly replace: boolean | undefined };

/** Layers of the same containers that the target has from elsewhere would be lost. */
export function refuseStrangers(database: Database, { target, source, replace }: Strangers): void {
  if (replace === true) return;
  const both = database.all(`SELECT id FROM layer_writables WHERE driver = ? AND state = 'ready' ORDER BY id`, target);
  if (both.length === 0) return;
  const ids = both.map(({ id }) => String(id).slice(0, 12)).join(", ");
  throw conflict(
    `${target} has layers of containers of its own (${ids}), which nobody has moved to ${source}: they would be removed. Migrate the other way, or say --replace`,
  );
}

/** What a container's layer loses on the target, whatever it holds. */
export function losses(database: Database, { source, target, targetDriver }: Sides): readonly string[] {
  if (targetDriver.traits.wholeSeconds !== true || containerLayers(database, source.driverName).length === 0) return [];
  return [
    `${target.driverName} keeps times in whole seconds here: what containers changed loses the fractions of its times`,
  ];
}

/** Refuses options of containers that the target cannot keep, or tells them as warnings. */
export function refuseOptions(
  database: Database,
  { source, target, targetDriver }: Sides,
  { ignoreStorageOptions }: MigrateOptions,
): readonly string[] {
  const keeps = new Set(targetDriver.traits.containerOptions);
  const lost = storageOptions(database, source.driverName).flatMap(({ id, options }) => {
    const left = Object.entries(options).filter(([key]) => !keeps.has(key.toLowerCase()));
    return left.map(([key, value]) => `container ${id.slice(0, 12)}: ${key}=${value}`);
  });
  if (lost.length === 0 || ignoreStorageOptions === true)
    return lost.map((line) => `${line} is not in force on ${target.driverName}; the container's record keeps it`);
  throw new EngineError(
    "unsupported",
    `${target.driverName} cannot keep these storage options: ${lost.join("; ")}. Say --ignore-storage-opt to move without them (the containers' records keep them)`,
  );
}

type OptionsOf = { readonly id: string; readonly options: Readonly<Record<string, string>> };

/** `--storage-opt` of every container that has a layer of the driver. */
export function storageOptions(database: Database, driver: string): readonly OptionsOf[] {
  const rows = database.all("SELECT id FROM layer_writables WHERE driver = ? AND state = 'ready'", driver);
  const moved = new Set(rows.map(({ id }) => String(id)));
  return database
    .all(`${selectAll} ORDER BY id`)
    .filter(({ id }) => moved.has(String(id)))
    .map((row) => ({ id: String(row.id), options: decodeRow(row).record.hostConfig.StorageOpt ?? {} }));
}

export type Owner = { readonly owner: string; readonly chainId: ChainId };

/** Who holds which chains of the driver. */
export function ownersOf(database: Database, driver: string): readonly Owner[] {
  return database
    .all(
      `SELECT o.owner, l.chain_id FROM layer_owners o JOIN layer_layers l ON o.layer = l.id
       WHERE l.driver = ? AND l.kind = 'image' AND l.state = 'ready' ORDER BY o.owner, l.chain_id`,
      driver,
    )
    .map((row) => ({ owner: String(row.owner), chainId: parseChainId(String(row.chain_id)) }));
}

export type ContainerLayer = { readonly id: string; readonly top: ChainId | undefined };

/** Containers' layers of the driver, each with the top of its image. */
export function containerLayers(database: Database, driver: string): readonly ContainerLayer[] {
  return database
    .all(
      `SELECT w.id, p.chain_id FROM layer_writables w JOIN layer_layers i ON w.init = i.id
       LEFT JOIN layer_layers p ON i.parent = p.id WHERE w.driver = ? AND w.state = 'ready' ORDER BY w.id`,
      driver,
    )
    .map((row) => ({
      id: String(row.id),
      top: row.chain_id === null ? undefined : parseChainId(String(row.chain_id)),
    }));
}
