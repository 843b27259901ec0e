/** Export and import of a volume's tree as tasks: bytes are the task's output or input. */
import { once } from "node:events";
import { createZstdCompress } from "node:zlib";
import { EngineError } from "../base/errors.ts";
import { syncFilesystem } from "../host/durable.ts";
import type { TaskContext } from "../host/pool.ts";
import { emptyDirectory } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2, readDirectory } from "../host/sys.ts";
import { type Unpacked, unpackVolume } from "./read-volume-tar.ts";
import { type PackVolume, packVolume } from "./volume-tar.ts";

export type ExportArgument = PackVolume & { readonly compress: "none" | "zst" };

export async function exportVolumeTask({ compress, ...pack }: ExportArgument, context: TaskContext): Promise<void> {
  const write = async (chunk: Uint8Array): Promise<void> => {
    context.signal.throwIfAborted();
    await context.write(chunk);
  };
  if (compress === "none") return packVolume(pack, write);
  const zstd = createZstdCompress();
  const feed = async (): Promise<void> => {
    try {
      await packVolume(pack, async (chunk) => {
        if (!zstd.write(chunk)) await once(zstd, "drain");
      });
      zstd.end();
    } catch (error) {
      zstd.destroy(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  };
  const drain = async (): Promise<void> => {
    for await (const chunk of zstd) await write(chunk);
  };
  const [fed, drained] = await Promise.allSettled([feed(), drain()]);
  if (drained.status === "rejected" && fed.status === "fulfilled") throw drained.reason;
  if (fed.status === "rejected") throw fed.reason;
}

export type ImportArgument = { readonly path: string; readonly plain: boolean };

/** Into an empty directory, which is empty again when it fails. On the disk when it resolves. */
export async function importVolumeTask(
  { path, plain }: ImportArgument,
  { input, signal }: TaskContext,
): Promise<Unpacked> {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  try {
    if (readDirectory(fd).some((name) => name.toString("latin1") !== "lost+found"))
      throw new EngineError("conflict", "the new volume's storage is not empty: give it options of its own");
    try {
      const done = await unpackVolume(input, { path, plain, signal });
      await syncFilesystem(path);
      return done;
    } catch (error) {
      emptyDirectory(fd);
      throw error;
    }
  } finally {
    closeFd(fd);
  }
}
