/** Images as the API shows them: a row of `docker images`, `docker image inspect`, `docker history`. */
import { familiarName } from "../../base/reference.ts";
import type { Image, RemovedImage } from "../../image/store.ts";
import { isOlder } from "./api-version.ts";
import { configJson } from "./config-json.ts";
import { never } from "./human-duration.ts";

const isDigestReference = (reference: string): boolean => reference.includes("@");

const tagsOf = (references: readonly string[]): readonly string[] =>
  references.filter((reference) => !isDigestReference(reference)).map((name) => familiarName(name));

const digestsOf = (references: readonly string[]): readonly string[] =>
  references.filter(isDigestReference).map((name) => familiarName(name));

/** Unix seconds of an RFC 3339 time; 0 when unknown. */
export function unixSeconds(time: string | undefined): number {
  const milliseconds = Date.parse(time ?? "");
  return Number.isNaN(milliseconds) ? 0 : Math.trunc(milliseconds / 1000);
}

/** Figures that cost a count; -1 when they were not asked for. */
export type ImageFigures = {
  readonly containers: number;
  readonly sharedSize: number;
  /** Those to show, when a filter has narrowed them. */
  readonly references?: readonly string[];
};

/** One row of `GET /images/json`. */
export function imageSummaryJson(image: Image, figures: ImageFigures, version: string): object {
  const references = figures.references ?? image.references;
  return {
    Containers: figures.containers,
    Created: unixSeconds(image.config.created),
    Id: image.id,
    Labels: image.config.config?.Labels ?? null,
    ParentId: image.parent ?? "",
    RepoDigests: digestsOf(references),
    RepoTags: tagsOf(references),
    SharedSize: figures.sharedSize,
    Size: image.size,
    ...(isOlder(version, "1.44") ? { VirtualSize: image.size } : {}),
  };
}

export type GraphDriver = { readonly Name: string; readonly Data: Readonly<Record<string, string>> | null };

/** `GET /images/{name}/json`. */
export function imageInspectJson(image: Image, driver: GraphDriver, version: string): object {
  const { config } = image;
  const old = isOlder(version, "1.45");
  return {
    Id: image.id,
    RepoTags: tagsOf(image.references),
    RepoDigests: digestsOf(image.references),
    Parent: image.parent ?? "",
    Comment: config.history?.at(-1)?.comment ?? "",
    Created: config.created ?? never,
    ...(old ? { Container: "", ContainerConfig: configJson(config.container_config) } : {}),
    DockerVersion: config.docker_version ?? "",
    Author: config.author ?? "",
    Config: configJson(config.config),
    Architecture: config.architecture,
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Os: config.os,
    Size: image.size,
    ...(isOlder(version, "1.44") ? { VirtualSize: image.size } : {}),
    GraphDriver: driver,
    RootFS: { Type: "layers", ...(image.diffIds.length > 0 ? { Layers: image.diffIds } : {}) },
    Metadata: { LastTagTime: image.lastTagged ?? never },
  };
}

/** `DELETE /images/{name}` and prune: names in their familiar form. */
export function removedJson(removed: RemovedImage): object {
  return "untagged" in removed ? { Untagged: familiarName(removed.untagged) } : { Deleted: removed.deleted };
}
