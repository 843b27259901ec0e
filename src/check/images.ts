/** Images, their names and their holds on layers; containers against images and layers. Records only. */

import { errorMessage } from "../base/errors.ts";
import { decodeRow } from "../container/record.ts";
import { imageIdOf, type ParsedConfig, parseImageConfig } from "../image/config.ts";
import type { CheckContext } from "./context.ts";
import type { Mend } from "./problem.ts";
import type { ImageRecord, LayerRecord, Snapshot } from "./records.ts";

/** The image as people know it. */
function nameOf({ references }: Pick<Snapshot, "references">, id: string): string {
  const names = references.filter(({ image }) => image === id).map(({ name }) => name);
  return names.length === 0 ? id : `${names.join(", ")} (${id})`;
}

function parsed({ id, bytes }: ImageRecord): ParsedConfig | string {
  try {
    if (imageIdOf(bytes) !== id) return `its config has the digest ${imageIdOf(bytes)}`;
    return parseImageConfig(bytes);
  } catch (error) {
    return errorMessage(error);
  }
}

/** Chain ID -> names of the images that stand on it. */
export function imagesByLayer(snapshot: Snapshot): (chainId: string) => readonly string[] {
  const names = new Map<string, string[]>();
  for (const image of snapshot.images.values()) {
    const config = parsed(image);
    if (typeof config === "string") continue;
    for (const chainId of config.chain)
      names.set(chainId, [...(names.get(chainId) ?? []), `image ${nameOf(snapshot, image.id)}`]);
  }
  return (chainId) => names.get(chainId) ?? [];
}

/** Looks at every image, name, owner and container. */
export function checkImages(context: CheckContext): void {
  const { snapshot, checked } = context;
  const usersOf = usersByImage(context);
  for (const image of snapshot.images.values()) {
    checked.images++;
    checkImage(context, image, usersOf.get(image.id) ?? []);
  }
  checkReferences(context);
  checkOwners(context);
}

function checkImage(context: CheckContext, image: ImageRecord, users: readonly string[]): void {
  const { snapshot, findings } = context;
  const object = `image ${nameOf(snapshot, image.id)}`;
  const config = parsed(image);
  const lost =
    users.length === 0
      ? { repair: "lost: with --force the image is removed; then load it again", mend: removal(image.id) }
      : {
          repair: `lost: container ${users.join(", ")} uses it; remove the container, then check with --repair --force`,
        };
  if (typeof config === "string") {
    findings.push({ kind: "image-config-damaged", object, detail: config, ...lost });
    return;
  }
  const missing = missingLayers(snapshot, config.chain);
  if (missing.length > 0) {
    const detail = `${missing.length} of its ${config.chain.length} layers are not recorded: ${missing.join(", ")}`;
    findings.push({ kind: "image-layer-missing", object, detail, ...lost });
    return;
  }
  reportNotHeld(context, image, config.chain.at(-1));
}

/** References and holds go with it; its children lose their parent, as with `docker rmi`. */
const removal = (id: string): Mend => ({
  force: true,
  statements: [
    { sql: "DELETE FROM image_reference WHERE image = ?", parameters: [id] },
    { sql: "DELETE FROM layer_owners WHERE owner = ?", parameters: [`image:${id}`] },
    { sql: "UPDATE image SET parent = NULL WHERE parent = ?", parameters: [id] },
    { sql: "DELETE FROM image WHERE id = ?", parameters: [id] },
  ],
});

function readyLayers(snapshot: Snapshot): ReadonlyMap<string, readonly LayerRecord[]> {
  const found = new Map<string, LayerRecord[]>();
  for (const layer of snapshot.layers.values())
    if (layer.kind === "image" && layer.state === "ready")
      found.set(layer.chainId, [...(found.get(layer.chainId) ?? []), layer]);
  return found;
}

/** What the driver that has most of the chain lacks: an image needs all of it in one driver. */
function missingLayers(snapshot: Snapshot, chain: readonly string[]): readonly string[] {
  const layers = readyLayers(snapshot);
  const drivers = new Set(chain.flatMap((chainId) => (layers.get(chainId) ?? []).map(({ driver }) => driver)));
  const lacking = [...drivers].map((driver) =>
    chain.filter((chainId) => !(layers.get(chainId) ?? []).some((layer) => layer.driver === driver)),
  );
  return lacking.toSorted((a, b) => a.length - b.length)[0] ?? chain;
}

function reportNotHeld({ snapshot, findings }: CheckContext, { id }: ImageRecord, top: string | undefined): void {
  const layers = top === undefined ? [] : (readyLayers(snapshot).get(top) ?? []);
  const held = snapshot.owners.some(
    ({ owner, layer }) => owner === `image:${id}` && layers.some((row) => row.id === layer),
  );
  const [first] = layers;
  if (held || first === undefined) return;
  findings.push({
    kind: "image-layer-not-held",
    object: `image ${nameOf(snapshot, id)}`,
    detail: `no record says that it needs layer ${top}`,
    repair: "records it",
    mend: {
      statements: [
        { sql: "INSERT INTO layer_owners (owner, layer) VALUES (?, ?)", parameters: [`image:${id}`, first.id] },
      ],
    },
  });
}

function checkReferences({ snapshot, findings }: CheckContext): void {
  for (const { name, image } of snapshot.references)
    if (!snapshot.images.has(image))
      findings.push({
        kind: "reference-without-image",
        object: `reference ${name}`,
        detail: `it points at ${image}, which is not recorded`,
        repair: "removes the reference",
        mend: { statements: [{ sql: "DELETE FROM image_reference WHERE name = ?", parameters: [name] }] },
      });
}

function checkOwners({ snapshot, findings }: CheckContext): void {
  const containers = new Set(snapshot.containers.map(({ id }) => String(id)));
  for (const { owner, layer } of snapshot.owners) {
    const [kind, id = ""] = [owner.slice(0, owner.indexOf(":")), owner.slice(owner.indexOf(":") + 1)];
    const gone = (kind === "image" && !snapshot.images.has(id)) || (kind === "container" && !containers.has(id));
    if (!gone && snapshot.layers.has(layer)) continue;
    findings.push({
      kind: "layer-owner-missing",
      object: `hold of ${owner} on the layer with data ${layer}`,
      detail: gone ? `${kind} ${id} is not recorded` : "the layer is not recorded",
      repair: "removes the hold",
      mend: {
        statements: [{ sql: "DELETE FROM layer_owners WHERE owner = ? AND layer = ?", parameters: [owner, layer] }],
      },
    });
  }
}

/** Looks at every container's record; returns container ids by image. */
function usersByImage(context: CheckContext): ReadonlyMap<string, readonly string[]> {
  const { snapshot, findings, checked } = context;
  const users = new Map<string, readonly string[]>();
  const holders = new Set(snapshot.owners.map(({ owner }) => owner));
  const withLayer = new Set(snapshot.writables.flatMap(({ id, state }) => (state === "ready" ? [id] : [])));
  for (const row of snapshot.containers) {
    checked.containers++;
    const object = `container ${String(row.name).replace(/^\//, "")} (${String(row.id)})`;
    if (!withLayer.has(String(row.id)))
      findings.push({
        kind: "container-layer-missing",
        object,
        detail: "no writable layer of it is recorded",
        repair: "lost: remove the container (docker rm) and make it again",
      });
    try {
      const { imageId } = decodeRow(row).record;
      if (imageId === undefined) continue;
      users.set(imageId, [...(users.get(imageId) ?? []), String(row.id)]);
      // `rmi -f` leaves a container its layers, and it goes on without the image.
      if (!snapshot.images.has(imageId) && !holders.has(`container:${String(row.id)}`))
        findings.push({
          kind: "container-image-missing",
          object,
          detail: `its image ${imageId} is not recorded`,
          repair: "lost: load the image again, or copy out what you need (docker cp) and remove the container",
        });
    } catch (error) {
      const repair = "lost: nothing can make the record again; its layer and its volumes are left alone";
      findings.push({ kind: "container-record-damaged", object, detail: errorMessage(error), repair });
    }
  }
  return users;
}
