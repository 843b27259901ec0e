/**
 * A Docker volume plugin as a volume driver. The plugin keeps the volumes; the driver says what it wants in the protocol's
 * words, gives every use an id of its own, and gives each id back, also when the plugin was away or the engine was.
 */
import { randomBytes } from "node:crypto";
import { EngineError, errorCode, errorMessage } from "../../base/errors.ts";
import { PluginRefusal } from "../../plugin/client.ts";
import type { VolumeDescription, VolumeDriver, VolumeSpec, VolumeTraits } from "../driver.ts";
import { withoutOptionSecrets } from "../secrets.ts";
import { absolutePath, checkMountpoint } from "./mountpoint.ts";
import type { PluginVolume, VolumeProtocol } from "./protocol.ts";
import type { Use, Uses } from "./uses.ts";

export type PluginSurroundings = {
  readonly uses: Uses;
  readonly boot: string;
  /** Folders that no volume may be in or above. */
  readonly forbidden: readonly string[];
  readonly report: (message: string, error: unknown) => void;
};

/** Names that a plugin may list: others would be taken for paths. */
const listable = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/;

export class PluginDriver implements VolumeDriver {
  readonly name: string;
  readonly #protocol: VolumeProtocol;
  readonly #around: PluginSurroundings;
  #scope: VolumeTraits["scope"] = "local";
  #ready: Promise<void> | undefined;
  #active = false;
  #otherKind = false;
  /** Ids that the plugin is being told of. */
  readonly #mounting = new Set<string>();
  /** Ids of this life of the engine: new ones, and those that a container took up again. */
  readonly #taken = new Set<string>();
  /** Until then an end of a use is not waited for. */
  #settled = false;

  constructor(protocol: VolumeProtocol, around: PluginSurroundings) {
    this.name = protocol.client.name;
    this.#protocol = protocol;
    this.#around = around;
  }

  get traits(): VolumeTraits {
    return { scope: this.#scope, prunable: false, ownsParent: false, foreign: true };
  }

  /** It has answered. */
  get active(): boolean {
    return this.#active;
  }

  /** It has said that it is something else than a volume driver. */
  get otherKind(): boolean {
    return this.#otherKind;
  }

  /** Asks once what the plugin is and whom its volumes are seen by. Throws unless it is a volume driver. */
  async ready(signal?: AbortSignal): Promise<void> {
    if (this.#active) return;
    // A look may be short: its end is not everybody's.
    if (signal !== undefined) return this.#activate(signal);
    this.#ready ??= this.#activate().finally(() => {
      this.#ready = undefined;
    });
    await this.#ready;
  }

  async #activate(signal?: AbortSignal): Promise<void> {
    const implemented = await this.#protocol.client.activate(signal);
    this.#otherKind = !implemented.includes("VolumeDriver");
    if (this.#otherKind) throw new EngineError("invalid_argument", "Plugin does not implement the requested driver");
    this.#scope = await this.#protocol.scope(signal).catch(() => "local" as const);
    this.#active = true;
  }

  validate({ name }: VolumeSpec): void {
    if (!listable.test(name))
      throw new EngineError("invalid_argument", `${JSON.stringify(name.slice(0, 300))} cannot be the name of a volume`);
  }

  async create(spec: VolumeSpec): Promise<void> {
    this.validate(spec);
    await this.ready();
    if ((await this.#find(spec)) !== undefined) return;
    await this.#discreetly(spec, () => this.#protocol.create(spec.name, spec.options));
  }

  /** Docker's rule: a refusal of Get means that there is none; only silence is an error. */
  async #find(spec: VolumeSpec): Promise<PluginVolume | undefined> {
    return this.#protocol.get(spec.name).catch((error: unknown) => {
      if (error instanceof PluginRefusal) return undefined;
      throw error;
    });
  }

  async remove(spec: VolumeSpec): Promise<void> {
    const mine = this.#mine().filter(({ volume }) => volume === spec.name);
    if (mine.some(({ ended }) => !ended))
      throw new EngineError("conflict", "volume has active mounts; stop the containers that use it first");
    await this.ready();
    for (const use of mine) await this.#end(use);
    if ((await this.#find(spec)) === undefined) return;
    await this.#discreetly(spec, () => this.#protocol.remove(spec.name));
  }

  async mount(spec: VolumeSpec, use: string): Promise<string> {
    const held = this.#around.uses.find({ plugin: this.name, volume: spec.name, use });
    if (held?.mountpoint !== undefined) {
      this.#taken.add(held.id);
      return held.mountpoint;
    }
    await this.ready();
    await this.describe(spec);
    const id = randomBytes(32).toString("hex");
    const taken: Use = { plugin: this.name, volume: spec.name, use, id, boot: this.#around.boot, ended: false };
    this.#mounting.add(id);
    try {
      await this.#around.uses.put({ ...taken, ended: true });
      return await this.#mount(spec, taken);
    } finally {
      this.#mounting.delete(id);
    }
  }

  async #mount(spec: VolumeSpec, taken: Use): Promise<string> {
    try {
      const path = await this.#discreetly(spec, () => this.#protocol.mount(spec.name, taken.id));
      const mountpoint = await checkMountpoint(path, { plugin: this.name, forbidden: this.#around.forbidden });
      await this.#around.uses.put({ ...taken, mountpoint });
      this.#taken.add(taken.id);
      return mountpoint;
    } catch (error) {
      // Refused is not mounted. Else that is not known, or it cannot be used: the id is given back.
      if (error instanceof PluginRefusal) await this.#around.uses.drop(taken.id);
      else this.#endLater(taken);
      throw error;
    }
  }

  async unmount(spec: VolumeSpec, use: string): Promise<void> {
    const held = this.#around.uses.find({ plugin: this.name, volume: spec.name, use });
    if (held === undefined) return;
    const ended = { ...held, ended: true };
    await this.#around.uses.put(ended);
    if (!this.#settled) return;
    await this.#end(ended).catch((error: unknown) => this.#tell(ended, error));
  }

  /** What no container took up again is given back, in the background. */
  async settle(): Promise<void> {
    this.#settled = true;
    for (const use of this.#mine()) if (!this.#taken.has(use.id) && !this.#mounting.has(use.id)) this.#endLater(use);
  }

  async describe(spec: VolumeSpec, signal?: AbortSignal): Promise<VolumeDescription> {
    await this.ready(signal);
    const found = await this.#discreetly(spec, () => this.#protocol.get(spec.name, signal)).catch((error: unknown) => {
      if (error instanceof PluginRefusal && /not (be )?found|no such|not exist|unknown/i.test(error.message))
        return undefined;
      throw error;
    });
    if (found === undefined) throw new EngineError("not_found", `get ${spec.name}: no such volume`);
    return {
      mountpoint: absolutePath(found.Mountpoint),
      createdAt: Number.isNaN(Date.parse(found.CreatedAt)) ? undefined : found.CreatedAt,
      status: found.Status ?? undefined,
    };
  }

  async usage(): Promise<undefined> {
    return undefined;
  }

  async list(signal?: AbortSignal): Promise<readonly string[]> {
    await this.ready(signal);
    const volumes = await this.#protocol.list(signal);
    return [...new Set(volumes.map(({ Name }) => Name).filter((name) => listable.test(name)))].sort();
  }

  #mine(): readonly Use[] {
    return this.#around.uses.all().filter(({ plugin }) => plugin === this.name);
  }

  #endLater(use: Use): void {
    const ended = { ...use, ended: true };
    const work = async (): Promise<void> => {
      await this.#around.uses.put(ended);
      await this.#end(ended);
    };
    void work().catch((error: unknown) => this.#tell(use, error));
  }

  /** Throws when the plugin was not reached: the use stays on record. What a plugin refuses to unmount it does not hold. */
  async #end(use: Use): Promise<void> {
    try {
      await this.#protocol.unmount(use.volume, use.id);
    } catch (error) {
      if (!(error instanceof PluginRefusal)) throw error;
      this.#tell(use, error);
    }
    this.#taken.delete(use.id);
    await this.#around.uses.drop(use.id);
  }

  #tell(use: Use, error: unknown): void {
    this.#around.report(`could not end a use of the volume ${use.volume} of plugin ${this.name}`, error);
  }

  /** A plugin may quote options in what it says. */
  async #discreetly<T>({ options }: VolumeSpec, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      const message = withoutOptionSecrets(errorMessage(cause), options);
      if (message === errorMessage(cause)) throw cause;
      throw cause instanceof PluginRefusal ? new PluginRefusal(message) : new EngineError(errorCode(cause), message);
    }
  }
}
