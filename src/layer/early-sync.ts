/**
 * Starts writing a layer to disk while the rest of it is still unpacked, so that the sync before it is acknowledged finds
 * little left to do. Nothing is promised by it: that sync is the one that counts, and tells what failed.
 */
import { syncFilesystem } from "../host/durable.ts";

/** Bytes after which a sync is worth its flush of the disk. */
const first = 2 * 1024 * 1024;

/** The same bytes; between them the filesystem of `home` is synced, each time after a quarter more than before. */
export async function* withEarlySync(
  home: string,
  tar: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  let [seen, next] = [0, first];
  let running: Promise<void> | undefined;
  try {
    for await (const chunk of tar) {
      yield chunk;
      seen += chunk.length;
      if (seen < next || running !== undefined) continue;
      next = seen + Math.max(first, seen / 4);
      running = syncFilesystem(home)
        .catch(() => undefined)
        .finally(() => {
          running = undefined;
        });
    }
  } finally {
    await running;
  }
}
