/** Progress of a layer in Docker's JSON messages, at most one for each megabyte. */
import { type DiffId, hexOf } from "../base/digest.ts";

const step = 1024 * 1024;

/** The same bytes; `progress` is told how many went by. */
export async function* countedBytes(
  content: AsyncIterable<Uint8Array>,
  diffId: DiffId,
  progress: (message: object) => void,
): AsyncIterable<Uint8Array> {
  const id = hexOf(diffId).slice(0, 12);
  let current = 0;
  let told = -step;
  for await (const chunk of content) {
    current += chunk.length;
    if (current - told >= step) {
      progress({ status: "Loading layer", progressDetail: { current }, id });
      told = current;
    }
    yield chunk;
  }
  if (told !== current) progress({ status: "Loading layer", progressDetail: { current }, id });
}
