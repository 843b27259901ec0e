/** `docker save`: a tar that OCI tools and every Docker since 1.10 read. Streams; nothing is spooled. */
import { TarWriter } from "../archive/write-tar.ts";
import { emitImageEvent } from "../image/event.ts";
import { bytesOf } from "./byte-stream.ts";
import type { TransferParts } from "./parts.ts";
import { blobName, type SavedDocuments, savedDocuments } from "./save-documents.ts";
import { imagesToSave } from "./save-names.ts";

/** Throws not_found at once, before the stream exists. Bytes are the same for the same images. */
export function saveImages(
  { images, layers, events }: Omit<TransferParts, "stagingRoot">,
  names: readonly string[],
  signal?: AbortSignal,
): AsyncIterable<Uint8Array> {
  const saved = imagesToSave(images, names);
  const documents = savedDocuments(saved, layers);
  return bytesOf(async (write) => {
    await writeArchive(new TarWriter(write), documents, { tar: (chainId) => layers.tar(chainId), signal });
    for (const { image } of saved) emitImageEvent(events, "save", { id: image.id, config: image.config });
  });
}

type Source = Pick<TransferParts["layers"], "tar"> & { readonly signal: AbortSignal | undefined };

async function writeArchive(
  writer: TarWriter,
  { members, layers }: SavedDocuments,
  { tar, signal }: Source,
): Promise<void> {
  for (const directory of ["blobs", "blobs/sha256"])
    await writer.add({ path: directory, type: "directory", mode: 0o755, mtime: 0 });
  for (const [path, text] of members)
    await writer.add({ path, type: "file", mode: 0o644, mtime: 0 }, Buffer.from(text));
  for (const [diffId, { chainId, tarSize }] of layers) {
    signal?.throwIfAborted();
    const entry = { path: blobName(diffId), type: "file", mode: 0o644, mtime: 0, size: tarSize } as const;
    await writer.addStream(entry, tar(chainId));
  }
  await writer.finish();
}
