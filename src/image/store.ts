/**
 * The contract of the image store: image configs by their digest, and the references (`name:tag`) that point at them.
 * Layers belong to `layer/`; the store only names the chain on top. An image is removed when its last reference goes.
 */
import type { ChainId, DiffId, ImageId } from "../base/digest.ts";
import type { ImageConfig } from "../base/oci.ts";
import type { Statement } from "../metadata/database.ts";

export type Image = {
  readonly id: ImageId;
  /** The config exactly as stored; its sha256 is the id. */
  readonly bytes: string;
  readonly config: ImageConfig;
  readonly diffIds: readonly DiffId[];
  /** Undefined for an image without layers. */
  readonly top: ChainId | undefined;
  /** The image this one was built from here (classic builder cache); never taken from a loaded archive. */
  readonly parent: ImageId | undefined;
  /** True when a build or commit on this machine made it: only such images serve as build cache (CVE-2024-24557). */
  readonly local: boolean;
  /** Sum of the layers' sizes, bytes. */
  readonly size: number;
  /** Sorted canonical references ("docker.io/library/busybox:latest"); familiar forms are for the API. */
  readonly references: readonly string[];
  /** RFC 3339, or undefined when never tagged. */
  readonly lastTagged: string | undefined;
};

/** In Docker's order: references, then the image, then the layers that went with it (topmost first), then its parent... */
export type RemovedImage = { readonly untagged: string } | { readonly deleted: ImageId | ChainId };

/** An image whose record cannot be trusted. */
export type DamagedImage = { readonly id: string; readonly problem: string };

export interface ImageStore {
  /** Statements that insert the image (idempotent by id) and hold its layers; run them by `LayerStore.publish`. */
  putStatements(image: NewImage): readonly Statement[];
  /** Statements that point a canonical reference at an image, taking it from any other. `at` (RFC 3339): when it was tagged, unless that is now. */
  tagStatements(reference: string, id: ImageId, at?: string): readonly Statement[];
  /** Docker's rules: reference (familiar or canonical, default tag `latest`), `sha256:...`, or a unique id prefix. Throws not_found "No such image: x". */
  get(nameOrId: string): Image;
  find(nameOrId: string): Image | undefined;
  getById(id: ImageId): Image;
  list(): readonly Image[];
  children(id: ImageId): readonly Image[];
  tag(nameOrId: string, reference: string): Promise<void>;
  /** `usedBy`: container ids by image id. Docker's rules of `rmi`: untag, then delete with parents that nobody needs; conflicts carry Docker's texts. */
  remove(nameOrId: string, options: RemoveImageOptions): Promise<readonly RemovedImage[]>;
  /** Images whose stored config is not what their id says; `list` leaves them out, `getById` throws data_loss. */
  damaged(): readonly DamagedImage[];
}

export type NewImage = {
  readonly id: ImageId;
  readonly bytes: string;
  readonly parent?: ImageId | undefined;
  readonly local: boolean;
};

export type RemoveImageOptions = {
  readonly force: boolean;
  readonly prune: boolean;
  /** Containers that use an image. */
  readonly usedBy: (id: ImageId) => readonly { readonly id: string; readonly running: boolean }[];
};
