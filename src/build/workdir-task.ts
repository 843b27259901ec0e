/** WORKDIR makes its directory where the image has none: the tar of what is missing, in a worker. */
import { bytesOfText, cleanPath, joinPath, quoted } from "../archive/bytes.ts";
import { RootTree } from "../archive/root-tree.ts";
import { TarWriter } from "../archive/write-tar.ts";
import { EngineError } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { resolvePath } from "./resolve-path.ts";

/** Writes an empty archive when the directory exists. `root` undefined: an empty image. */
export async function workdirTarTask(
  argument: { readonly root: string | undefined; readonly path: string },
  { write }: TaskContext,
): Promise<void> {
  const tar = new TarWriter(write);
  using tree = argument.root === undefined ? undefined : new RootTree(argument.root);
  const path = cleanPath(bytesOfText(argument.path)) ?? "";
  const found = tree === undefined ? undefined : resolvePath(tree, path);
  if (found?.kind === "file" || found?.kind === "blocked")
    throw new EngineError("invalid_argument", `Cannot mkdir: ${quoted(path)} is not a directory`);
  let parent = found?.kind === "missing" ? found.parent : "";
  const missing =
    found === undefined ? path.split("/").filter((name) => name !== "") : found.kind === "missing" ? found.rest : [];
  for (const name of missing) {
    parent = joinPath(parent, name);
    await tar.add({ path: parent, type: "directory", mode: 0o755, mtime: Math.floor(Date.now() / 1000) });
  }
  await tar.finish();
}
