/**
 * The composition root of the volume half alone: volume drivers and their store, served to engines of others. It needs
 * no storage driver and no runtime. One process owns a data root at a time, and it is never an engine's.
 *
 *   <data root>/strata.pid, reserve, meta.db   as an engine's
 *   <data root>/volumes/, volume-drivers/      what the drivers keep
 */
import { chmod, mkdir, readFile, realpath, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { EngineError, systemCode } from "./base/errors.ts";
import { EventBus } from "./base/events.ts";
import { giveBackMemory } from "./host/idle-memory.ts";
import { lockFile } from "./host/lock.ts";
import { Remote } from "./host/remote.ts";
import { Reserve } from "./host/reserve.ts";
import { createPool } from "./host/worker-pool.ts";
import { openDatabase } from "./metadata/open.ts";
import { openVolumeStore } from "./volume/open.ts";
import { OutsideUses, outsideUseSchema } from "./volume/outside-uses.ts";
import { volumeSchema } from "./volume/schema.ts";
import { ServedVolumes } from "./volume/served.ts";
import { openVolumeDrivers } from "./volume-driver/list.ts";

export type VolumeEngineOptions = {
  /** Holds volumes and their records; `/var/lib/strata-volumes` when undefined. */
  readonly dataRoot?: string | undefined;
  /** Names of the drivers that are offered, the default first; every one when undefined. */
  readonly drivers?: readonly string[] | undefined;
  /** Milliseconds that whoever serves a volume may take for one answer; 10,000 when undefined. */
  readonly volumeDeadline?: number | undefined;
  /** Told what went wrong where nobody waits. */
  readonly report: (message: string, error: unknown) => void;
};

/** Disposing waits for what is under way and releases the data root; what is mounted stays mounted. */
export type VolumeEngine = AsyncDisposable & {
  readonly dataRoot: string;
  readonly drivers: readonly string[];
  readonly volumes: ServedVolumes;
};

export const defaultVolumeRoot = "/var/lib/strata-volumes";

/** Milliseconds for what containers use to be mounted again; servers may never answer, and others wait to be served. */
const restoreDeadline = 10_000;

/** Throws conflict, naming the holder, when another process has the data root. */
export async function openVolumeEngine(options: VolumeEngineOptions): Promise<VolumeEngine> {
  await using stack = new AsyncDisposableStack();
  const dataRoot = await openRoot(resolve(options.dataRoot ?? defaultVolumeRoot));
  const reserve = new Reserve(join(dataRoot, "reserve"));
  await reserve.open();
  stack.use(lockFile(join(dataRoot, "strata.pid")));
  const pool = stack.use(createPool({ onIdle: giveBackMemory }));
  const database = stack.use(await openDatabase(join(dataRoot, "meta.db"), [volumeSchema, outsideUseSchema]));
  const remote = stack.use(new Remote(options.volumeDeadline));
  const opened = await openVolumeDrivers({ root: dataRoot, pool, remote });
  const drivers = options.drivers ?? opened.map(({ name }) => name);
  const scopes = drivers.map((name) => {
    const driver = opened.find((known) => known.name === name);
    if (driver !== undefined) return driver.traits.scope;
    const known = opened.map((each) => each.name).join(", ");
    throw new EngineError("invalid_argument", `no volume driver ${JSON.stringify(name)}; there are ${known}`);
  });
  const store = await openVolumeStore({ database, drivers: opened, pool, remote, events: new EventBus() });
  const uses = new OutsideUses(database, (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim());
  await uses.open();
  const scope = scopes.every((each) => each === "global") ? "global" : "local";
  const volumes = new ServedVolumes({ store, uses, drivers, scope, report: options.report });
  // only when every use is known again may the rest be unmounted
  if (await endsInTime(volumes.restore())) await store.settle();
  else options.report("containers use volumes that do not answer; what nobody uses stays mounted", undefined);
  await reserve.fill();
  const held = stack.move();
  return { dataRoot, drivers, volumes, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** The root without symlinks: mount tables know no others. */
async function openRoot(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o711 });
  await chmod(path, 0o711);
  const engine = await stat(join(path, "engine-id")).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (engine !== undefined)
    throw new EngineError(
      "conflict",
      `${path} is the data root of an engine; give the plugin one of its own (--data-root)`,
    );
  return realpath(path);
}

async function endsInTime(work: Promise<void>): Promise<boolean> {
  const { promise: late, resolve: give } = Promise.withResolvers<boolean>();
  const timer = setTimeout(give, restoreDeadline, false);
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
