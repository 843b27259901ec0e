/**
 * The contract of what moves images in and out: archives of `docker save`/`load`, plain filesystem tars, and (later)
 * registries. Everything streams; nothing is spooled whole.
 */
import type { ImageId } from "../base/digest.ts";

export type ImportOptions = {
  /** Canonical or familiar reference, or undefined. */
  readonly reference: string | undefined;
  readonly message: string;
  /** Dockerfile instructions (`--change`): CMD, ENV... */
  readonly changes: readonly string[];
  readonly platform: string | undefined;
  readonly signal?: AbortSignal;
};

export type LoadedImage = { readonly reference: string } | { readonly id: ImageId };

export interface TransferService {
  /** A root filesystem tar (gzip, bzip2, xz, zstd or plain) becomes an image of one layer. */
  importImage(tar: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<ImageId>;
  /** A `docker save` archive (either layout; compressed or not). `progress` gets Docker's JSON messages. */
  load(
    archive: AsyncIterable<Uint8Array>,
    progress: (message: object) => void,
    signal?: AbortSignal,
  ): Promise<readonly LoadedImage[]>;
  /** OCI layout and legacy members in one tar; layers come bit for bit. */
  save(names: readonly string[], signal?: AbortSignal): AsyncIterable<Uint8Array>;
}
