/** What is done with an unpacked build context, in a worker: its Dockerfile is read, what is in the way of COPY removed, all of it discarded. */
import { basename, dirname } from "node:path";
import { bytesOfText, cleanPath, nameOf } from "../archive/bytes.ts";
import { isFile, RootTree } from "../archive/root-tree.ts";
import { EngineError } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { removeTreeAt } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2, unlinkat } from "../host/sys.ts";
import { parseDockerignore } from "./glob.ts";
import { resolvePath } from "./resolve-path.ts";
import { contentOf, openSource } from "./source-task.ts";

/** No Dockerfile is longer; a hostile one must not fill the memory. */
const longestFile = 4 * 1024 * 1024;
const ignoreFile = ".dockerignore";

/**
 * The text of the Dockerfile at `path` inside the context. As with dockerd, the client has left out what
 * `.dockerignore` names; Dockerfile and `.dockerignore` themselves come along in any case and are removed here if named.
 */
export async function readDockerfileTask(argument: { readonly root: string; readonly path: string }): Promise<string> {
  using tree = new RootTree(argument.root);
  const path = cleanPath(bytesOfText(argument.path.replace(/^\/+/, "")));
  const text = path === undefined || path === "" ? undefined : await readFile(tree, path);
  if (path === undefined || text === undefined)
    throw new EngineError("invalid_argument", `Cannot locate specified Dockerfile: ${argument.path}`);
  if (text === "") throw new EngineError("invalid_argument", `the Dockerfile (${argument.path}) cannot be empty`);
  const ignored = parseDockerignore((await readFile(tree, ignoreFile)) ?? "");
  for (const name of [path, ignoreFile]) if (ignored(name)) removeFile(tree, name);
  return text;
}

/** UTF-8 text of a regular file, or undefined. */
async function readFile(tree: RootTree, path: string): Promise<string | undefined> {
  const found = resolvePath(tree, path);
  if (found.kind !== "file" || !isFile(found.stat.mode)) return undefined;
  if (found.stat.size > longestFile)
    throw new EngineError("invalid_argument", `${path} is too long: ${found.stat.size} bytes`);
  const fd = openSource(tree, { directory: found.parent, name: found.name });
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of contentOf(fd)) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  } finally {
    closeFd(fd);
  }
}

function removeFile(tree: RootTree, path: string): void {
  const parent = tree.find(path.slice(0, Math.max(path.lastIndexOf("/"), 0)));
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (parent === undefined || resolvePath(tree, path).kind !== "file") return;
  unlinkat(parent.fd, nameOf(name));
  tree.forget();
}

/** `path` is the context's own directory. Missing: nothing. */
export function discardContextTask(path: string, { signal }: TaskContext): void {
  const parent = openat2(AT_FDCWD, dirname(path), { flags: O.RDONLY | O.DIRECTORY });
  try {
    removeTreeAt(parent, basename(path), signal);
  } finally {
    closeFd(parent);
  }
}
