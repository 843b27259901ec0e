/** `docker import`: the tar of a root filesystem becomes an image of one layer. */
import { decompress } from "../archive/decompress.ts";
import type { DiffId, ImageId } from "../base/digest.ts";
import type { RunConfig } from "../base/oci.ts";
import { canonicalOf, familiarName } from "../base/reference.ts";
import { applyChanges } from "../image/change.ts";
import { imageIdOf } from "../image/config.ts";
import { emitImageEvent } from "../image/event.ts";
import type { TransferParts } from "./parts.ts";
import { type Platform, parsePlatform } from "./platform.ts";
import type { ImportOptions } from "./transfer.ts";

/** Docker writes every member of an empty config. */
const emptyConfig: RunConfig = {
  Hostname: "",
  Domainname: "",
  User: "",
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: "",
  Volumes: null,
  WorkingDir: "",
  Entrypoint: null,
  OnBuild: null,
  Labels: null,
};

/** Everything that can be refused is refused before the first byte is read. */
export async function importImage(
  parts: Omit<TransferParts, "stagingRoot">,
  tar: AsyncIterable<Uint8Array>,
  options: ImportOptions,
): Promise<ImageId> {
  const { layers, images, events } = parts;
  const { signal } = options;
  const config = await applyChanges(emptyConfig, options.changes);
  const platform = parsePlatform(options.platform);
  const reference = options.reference === undefined ? undefined : canonicalOf(options.reference);
  const layer = await layers.register(undefined, decompress(tar), signal === undefined ? {} : { signal });
  try {
    signal?.throwIfAborted();
    const bytes = configBytes({
      config,
      platform,
      message: options.message || "Imported from -",
      diffId: layer.diffId,
    });
    const id = imageIdOf(bytes);
    await layers.publish(
      [layer],
      [
        ...images.putStatements({ id, bytes, local: false }),
        ...(reference === undefined ? [] : images.tagStatements(reference, id)),
      ],
    );
    const image = images.getById(id);
    if (reference !== undefined)
      emitImageEvent(events, "tag", { id, config: image.config, name: familiarName(reference) });
    emitImageEvent(events, "import", { id, config: image.config });
    return id;
  } catch (error) {
    await layers.abandon([layer]);
    throw error;
  }
}

type ConfigParts = {
  readonly config: RunConfig;
  readonly platform: Platform;
  readonly message: string;
  readonly diffId: DiffId;
};

function configBytes({ config, platform, message, diffId }: ConfigParts): string {
  const created = new Date().toISOString();
  return JSON.stringify({
    architecture: platform.architecture,
    ...(platform.variant === undefined ? {} : { variant: platform.variant }),
    os: platform.os,
    created,
    comment: message,
    config,
    rootfs: { type: "layers", diff_ids: [diffId] },
    history: [{ created, comment: message }],
  });
}
