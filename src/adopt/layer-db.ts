/**
 * dockerd's records of layers (moby layer/filestore.go):
 *
 *   <image root>/layerdb/sha256/<chain>/{diff, parent, cache-id, size, tar-split.json.gz}
 *   <image root>/layerdb/mounts/<container>/{mount-id, init-id, parent}
 *
 * `cache-id`, `mount-id` and `init-id` are what the storage driver calls the layer. Nothing here is believed to be right:
 * whoever takes a layer compares its digest.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainId, type DiffId, hexOf, parseChainId, parseDiffId } from "../base/digest.ts";
import { EngineError, systemCode } from "../base/errors.ts";

export type SourceLayer = {
  readonly chainId: ChainId;
  readonly diffId: DiffId;
  readonly parent: ChainId | undefined;
  /** The driver's id. */
  readonly cacheId: string;
  /** Bytes of its files, as dockerd counted them. */
  readonly size: number;
  /** Path of its tar-split.json.gz, which may be missing. */
  readonly split: string;
};

/** A container's layer: ids of the driver. */
export type SourceMount = {
  readonly mountId: string;
  readonly initId: string;
  readonly parent: ChainId | undefined;
};

/** dockerd makes no deeper chains; a longer one goes round in a circle. */
const deepest = 512;
const idPattern = /^[a-z0-9][a-z0-9-]{0,127}$/;

export class LayerDb {
  readonly #folder: string;

  /** `imageRoot`: `<data root>/image/<driver>`. */
  constructor(imageRoot: string) {
    this.#folder = join(imageRoot, "layerdb");
  }

  /** Throws data_loss for a record that is missing or cannot be read. */
  async get(chainId: ChainId): Promise<SourceLayer> {
    const folder = join(this.#folder, "sha256", hexOf(chainId));
    const diffId = await field(folder, "diff");
    const cacheId = await field(folder, "cache-id");
    if (diffId === undefined || cacheId === undefined) throw lost(`dockerd has no record of the layer ${chainId}`);
    const parent = await field(folder, "parent");
    return {
      chainId,
      diffId: parseDiffId(diffId),
      parent: parent === undefined ? undefined : parseChainId(parent),
      cacheId: checkedId(cacheId),
      size: Number((await field(folder, "size")) ?? 0) || 0,
      split: join(folder, "tar-split.json.gz"),
    };
  }

  /** The layers of a chain, lowest first. */
  async chain(top: ChainId | undefined): Promise<readonly SourceLayer[]> {
    const chain: SourceLayer[] = [];
    for (let next = top; next !== undefined; next = chain[0]?.parent) {
      if (chain.length >= deepest) throw lost(`the chain of the layer ${top} has no end`);
      chain.unshift(await this.get(next));
    }
    return chain;
  }

  /** Throws data_loss when dockerd has no layer of the container. */
  async mount(container: string): Promise<SourceMount> {
    const folder = join(this.#folder, "mounts", container);
    const mountId = await field(folder, "mount-id");
    if (mountId === undefined) throw lost("dockerd has no record of its layer");
    const initId = (await field(folder, "init-id")) ?? `${mountId}-init`;
    const parent = await field(folder, "parent");
    return {
      mountId: checkedId(mountId),
      initId: checkedId(initId),
      parent: parent === undefined ? undefined : parseChainId(parent),
    };
  }
}

async function field(folder: string, name: string): Promise<string | undefined> {
  try {
    return (await readFile(join(folder, name), "utf8")).trim();
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function checkedId(id: string): string {
  if (idPattern.test(id)) return id;
  throw lost(`${JSON.stringify(id.slice(0, 200))} is no id of a layer`);
}

const lost = (why: string): EngineError => new EngineError("data_loss", why);
