/**
 * Images: each goes in with its layers and all its names in one step, so that a crash leaves it whole or not at all.
 * Parents come first, as dockerd's build cache keeps them. A name that means another image here stays with that one.
 */
import { familiarName } from "../base/reference.ts";
import { type ParsedConfig, parseImageConfig } from "../image/config.ts";
import type { Statement } from "../metadata/database.ts";
import { type Adoption, because, type Ending, turn } from "./context.ts";
import type { ImageDb, SourceImage } from "./image-db.ts";
import type { LayerAdopter } from "./layers.ts";
import type { Item } from "./report.ts";
import type { Stores } from "./target.ts";

type Parts = { readonly adoption: Adoption; readonly images: ImageDb; readonly layers: LayerAdopter };

/** Adopts every image. */
export async function adoptImages(parts: Parts): Promise<readonly Item[]> {
  const { adoption, images } = parts;
  const items: Item[] = [];
  for (const image of await images.list(adoption.report)) {
    const name = image.references.map(familiarName).join(", ") || image.id;
    const about = { kind: "image", name, id: image.id } as const;
    items.push(await turn(adoption, about, () => adoptImage(parts, image)));
  }
  return items;
}

async function adoptImage({ adoption, images, layers }: Parts, image: SourceImage): Promise<Ending> {
  const { known, stores } = adoption.target;
  const bytes = await images.config(image.id);
  const parsed = parseImageConfig(bytes);
  if (parsed.config.os !== "linux") throw because(`it is an image for ${parsed.config.os}`);
  const { free, notes } = namesToTake(adoption, image);
  if (known.image(image.id, parsed.chain.at(-1)) && free.length === 0) return { outcome: "present", bytes: 0, notes };
  if (stores === undefined) return { outcome: "planned", bytes: await layers.plan(parsed.diffIds), notes };
  const read = await publish({ stores, layers }, { image, bytes, parsed, free });
  return { outcome: "adopted", bytes: read, notes };
}

type Whole = {
  readonly image: SourceImage;
  readonly bytes: string;
  readonly parsed: ParsedConfig;
  readonly free: readonly string[];
};

/** Returns the bytes of files that came. */
async function publish(
  { stores, layers }: { readonly stores: Stores; readonly layers: LayerAdopter },
  { image, bytes, parsed, free }: Whole,
): Promise<number> {
  const { id, parent, local, lastTagged } = image;
  const pending = await layers.register(stores.layers, parsed.diffIds);
  try {
    const tags: Statement[] = free.flatMap((name) => stores.images.tagStatements(name, id, lastTagged));
    await stores.layers.publish(pending, [...stores.images.putStatements({ id, bytes, parent, local }), ...tags]);
  } catch (error) {
    await stores.layers.abandon(pending);
    throw error;
  }
  return pending.reduce((sum, { existed, size }) => sum + (existed ? 0 : size), 0);
}

/** Names that nobody has here, and what is to be said of the others. */
function namesToTake(
  { target }: Adoption,
  { id, references }: SourceImage,
): { readonly free: readonly string[]; readonly notes: readonly string[] } {
  const held = references.map((name) => ({ name, holder: target.known.reference(name) }));
  return {
    free: held.filter(({ holder }) => holder === undefined).map(({ name }) => name),
    notes: held
      .filter(({ holder }) => holder !== undefined && holder !== id)
      .map(({ name, holder }) => `the name ${familiarName(name)} is left to ${holder}, which has it here`),
  };
}
