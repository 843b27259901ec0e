/** The transfer service: import, load and save over the image and layer stores. */
import { importImage } from "./import.ts";
import { loadArchive } from "./load.ts";
import type { TransferParts } from "./parts.ts";
import { saveImages } from "./save.ts";
import { SpoolRoot } from "./spool.ts";
import type { TransferService } from "./transfer.ts";

export function createTransfer(parts: TransferParts): TransferService {
  const spools = new SpoolRoot(parts.stagingRoot);
  return {
    importImage: (tar, options) => importImage(parts, tar, options),
    load: (archive, progress, signal) => loadArchive({ ...parts, spools }, archive, { progress, signal }),
    save: (names, signal) => saveImages(parts, names, signal),
  };
}
