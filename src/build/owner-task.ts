/** `--chown` of COPY and ADD: names are looked up in the image's own passwd and group files, in a worker. */
import { isFile, RootTree } from "../archive/root-tree.ts";
import { EngineError } from "../base/errors.ts";
import { closeFd } from "../host/sys.ts";
import { resolvePath } from "./resolve-path.ts";
import { contentOf, openSource } from "./source-task.ts";

export type Owner = { readonly uid: number; readonly gid: number };

const longestFile = 8 * 1024 * 1024;
const highestId = 0xffff_fffe;

/** `user[:group]`, names or numbers; without a group the user's word is the group's too, as in Docker. */
export async function findOwnerTask(argument: {
  /** A view of the image; undefined for an empty one. */
  readonly root: string | undefined;
  readonly owner: string;
}): Promise<Owner> {
  const { root, owner } = argument;
  const [user = "", group = user, ...more] = owner.split(":");
  if (user === "" || group === "" || more.length > 0)
    throw new EngineError("invalid_argument", `invalid chown string: ${owner}: write user or user:group`);
  using tree = root === undefined ? undefined : new RootTree(root);
  const look = (word: string, path: string, kind: "user" | "group"): Promise<number> =>
    lookUp(tree, { word, path, kind });
  return { uid: await look(user, "etc/passwd", "user"), gid: await look(group, "etc/group", "group") };
}

type LookUp = { readonly word: string; readonly path: string; readonly kind: "user" | "group" };

async function lookUp(tree: RootTree | undefined, { word, path, kind }: LookUp): Promise<number> {
  const found = /^\d+$/.test(word) ? word : (await entriesOf(tree, path)).get(word);
  const id = Number(found ?? Number.NaN);
  if (Number.isInteger(id) && id >= 0 && id <= highestId) return id;
  const what = kind === "user" ? "uid" : "gid";
  throw new EngineError(
    "invalid_argument",
    `unable to convert uid/gid chown string to host mapping: can't find ${what} for ${kind} ${word}: no such ${kind}: ${word}`,
  );
}

/** Name -> third field. */
async function entriesOf(tree: RootTree | undefined, path: string): Promise<ReadonlyMap<string, string>> {
  const entries = new Map<string, string>();
  const found = tree === undefined ? undefined : resolvePath(tree, path);
  if (tree === undefined || found?.kind !== "file" || !isFile(found.stat.mode) || found.stat.size > longestFile)
    return entries;
  const fd = openSource(tree, { directory: found.parent, name: found.name });
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of contentOf(fd)) chunks.push(chunk);
    for (const line of Buffer.concat(chunks).toString().split("\n")) {
      const [name = "", , id = ""] = line.split(":");
      if (name !== "" && id !== "" && !entries.has(name)) entries.set(name, id);
    }
    return entries;
  } finally {
    closeFd(fd);
  }
}
