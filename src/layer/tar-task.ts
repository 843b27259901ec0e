/** Makes a layer's tar again in a pool worker, and hashes it there. */
import { createHash } from "node:crypto";
import { restoreTar } from "../archive/restore-tar.ts";
import type { TaskContext } from "../host/pool.ts";

/** Writes the tar; returns the digest of what was written. */
export async function verifiedTarTask(
  { recipePath, root }: { readonly recipePath: string; readonly root: string },
  { write, signal }: TaskContext,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of restoreTar(recipePath, root)) {
    signal.throwIfAborted();
    hash.update(chunk);
    await write(chunk);
  }
  return `sha256:${hash.digest("hex")}`;
}
