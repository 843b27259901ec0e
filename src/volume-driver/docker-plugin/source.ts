/**
 * Every Docker volume plugin of the machine, by name: found when somebody asks for it, never at start-up, and kept once
 * it was heard of. Nothing here waits for one plugin on behalf of another.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errorCode, errorMessage } from "../../base/errors.ts";
import { PluginClient, type PluginPatience } from "../../plugin/client.ts";
import { dockerPluginFolders, findPlugin, listPlugins, type PluginFolders } from "../../plugin/discovery.ts";
import type { VolumeDriver, VolumeDriverSource } from "../driver.ts";
import { PluginDriver, type PluginSurroundings } from "./driver.ts";
import { type Deadlines, VolumeProtocol } from "./protocol.ts";
import { openUses } from "./uses.ts";

export type DockerPluginsOptions = {
  /** The engine's data root. */
  readonly root: string;
  /** Folders of the engine besides the data root. */
  readonly ownFolders?: readonly string[];
  readonly folders?: PluginFolders | undefined;
  readonly patience?: PluginPatience;
  readonly deadlines?: Deadlines;
  /** Aborts when the engine closes: no plugin is waited for any more. */
  readonly closing?: AbortSignal | undefined;
  /** Told what went wrong where nobody waits. */
  readonly report?: ((message: string, error: unknown) => void) | undefined;
};

/** Opens over `<root>/volume-drivers/docker-plugin`; asks no plugin. */
export async function openDockerPlugins(options: DockerPluginsOptions): Promise<VolumeDriverSource> {
  const directory = join(options.root, "volume-drivers", "docker-plugin");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return new DockerPlugins(options, {
    uses: await openUses(join(directory, "uses.json"), boot),
    boot,
    forbidden: [options.root, ...(options.ownFolders ?? [])],
    report: options.report ?? (() => undefined),
  });
}

class DockerPlugins implements VolumeDriverSource {
  readonly #options: DockerPluginsOptions;
  readonly #around: PluginSurroundings;
  readonly #folders: PluginFolders;
  readonly #drivers = new Map<string, PluginDriver>();
  #settled = false;

  constructor(options: DockerPluginsOptions, around: PluginSurroundings) {
    this.#options = options;
    this.#around = around;
    this.#folders = options.folders ?? dockerPluginFolders;
  }

  get active(): readonly string[] {
    return [...this.#drivers.values()].filter(({ active }) => active).map(({ name }) => name);
  }

  of(name: string): PluginDriver {
    const known = this.#drivers.get(name);
    if (known !== undefined) return known;
    const { patience, closing } = this.#options;
    const client = new PluginClient(name, this.#folders, { patience, closing });
    const driver = new PluginDriver(new VolumeProtocol(client, this.#options.deadlines), this.#around);
    this.#drivers.set(name, driver);
    if (this.#settled) void driver.settle();
    return driver;
  }

  async open(name: string): Promise<VolumeDriver> {
    try {
      // A name that nobody has heard of is not waited for, and not kept.
      if (!this.#drivers.has(name) && (await findPlugin(name, this.#folders)) === undefined)
        throw new EngineError("not_found", `plugin ${JSON.stringify(name)} not found`);
      const driver = this.of(name);
      await driver.ready();
      return driver;
    } catch (cause) {
      const message = `error looking up volume plugin ${name}: ${errorMessage(cause)}`;
      throw new EngineError(errorCode(cause), message, { cause });
    }
  }

  async discover(): Promise<readonly VolumeDriver[]> {
    for (const name of await listPlugins(this.#folders)) this.of(name);
    return [...this.#drivers.values()].filter(({ otherKind }) => !otherKind);
  }

  async settle(): Promise<void> {
    this.#settled = true;
    for (const { plugin } of this.#around.uses.all()) this.of(plugin);
    for (const driver of this.#drivers.values()) await driver.settle();
  }
}
