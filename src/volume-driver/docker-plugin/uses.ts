/**
 * The uses of plugins' volumes, kept on disk because the plugin counts them by id, and an engine that opens again must
 * give back what it took. A use is on record before the plugin hears its id and until the plugin has taken it back.
 *
 *     <root>/volume-drivers/docker-plugin/uses.json   [{plugin, volume, use, id, boot, mountpoint?, ended}]
 */
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { EngineError, systemCode } from "../../base/errors.ts";
import { decodeShape } from "../../base/shape.ts";
import { writeFileDurably } from "../../host/durable.ts";

const shape = v.array(
  v.object({
    plugin: v.string(),
    volume: v.string(),
    use: v.string(),
    /** What the plugin knows the use by: 64 hex digits, never given twice. */
    id: v.string(),
    /** The boot of the machine in which it was taken. */
    boot: v.string(),
    /** Where the plugin said the data is; not yet known while it is being mounted. */
    mountpoint: v.optional(v.string()),
    /** Over for the engine; the plugin has not been reached since. */
    ended: v.boolean(),
  }),
);

export type Use = v.InferOutput<typeof shape>[number];

export class Uses {
  readonly #path: string;
  readonly #uses: Map<string, Use>;
  #writing: Promise<void> = Promise.resolve();
  #waiting: Promise<void> | undefined;

  constructor(path: string, uses: readonly Use[]) {
    this.#path = path;
    this.#uses = new Map(uses.map((use) => [use.id, use]));
  }

  /** The use that is not over, if there is one. */
  find({ plugin, volume, use }: Pick<Use, "plugin" | "volume" | "use">): Use | undefined {
    return this.all().find(
      (found) => found.plugin === plugin && found.volume === volume && found.use === use && !found.ended,
    );
  }

  all(): readonly Use[] {
    return [...this.#uses.values()];
  }

  /** On disk when it resolves. */
  async put(use: Use): Promise<void> {
    this.#uses.set(use.id, use);
    await this.#write();
  }

  async drop(id: string): Promise<void> {
    if (this.#uses.delete(id)) await this.#write();
  }

  /** One write at a time; those who come while it runs share the next one. */
  #write(): Promise<void> {
    this.#waiting ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#waiting = undefined;
        this.#writing = writeFileDurably(this.#path, `${JSON.stringify(this.all())}\n`);
        return this.#writing;
      });
    return this.#waiting;
  }
}

/** What an earlier life wrote. Uses from before a boot, and those that were never mounted, are over. */
export async function openUses(path: string, boot: string): Promise<Uses> {
  const decoded = decodeShape(shape, await readJson(path));
  if (!decoded.ok)
    throw new EngineError("data_loss", `${path}: ${decoded.path}: ${decoded.problem}; move it away and start again`);
  return new Uses(
    path,
    decoded.value.map((use) => ({ ...use, ended: use.ended || use.boot !== boot || use.mountpoint === undefined })),
  );
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
