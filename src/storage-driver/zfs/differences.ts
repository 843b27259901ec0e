/**
 * Where a writable may differ from the layer that it was cloned from, told by `zfs diff` (OpenZFS; both must be mounted):
 * it looks at the blocks of changed inodes only, so it costs what was changed. Its one fault: it tells one name of a file
 * that has several. So when any changed file has several names nothing is told, and trees are compared.
 *
 *   M	/mount/path	[(+1)]      changed; its count of names too
 *   +	/mount/path             new; `-` gone, told by its path in the layer
 *   R	/mount/old	/mount/new   another name
 *
 * Bytes that are no plain characters stand as \0ooo.
 */
import type { TaskContext } from "../../host/pool.ts";
import { runProgram } from "../../host/program.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE, statat } from "../../host/sys.ts";

/** Beyond so much, a walk is the better way. */
const most = { output: 16 << 20, paths: 100_000 };
const deadlineMs = 600_000;
/** Where `zfs diff` says that an attribute changed: below a file, in a folder that nobody sees. */
const attributes = "/<xattr>";

const directoryType = 0o040000;
const typeMask = 0o170000;

export type DifferencesArgument = {
  readonly dataset: string;
  /** The layer's. */
  readonly snapshot: string;
  /** Where the dataset is mounted; any of them. */
  readonly mounts: readonly string[];
};

/** Clean paths; undefined where they cannot be told. */
export async function differencesTask(
  { dataset, snapshot, mounts }: DifferencesArgument,
  { signal }: Pick<TaskContext, "signal">,
): Promise<string[] | undefined> {
  const [place] = mounts;
  if (place === undefined) return undefined;
  const text = await diff(snapshot, dataset, signal);
  const paths = text === undefined ? undefined : parseDifferences(text, mounts);
  if (paths === undefined || paths.length > most.paths) return undefined;
  return hasSeveralNames(place, paths, signal) ? undefined : paths;
}

/** It fails, too, where it finds no name for an inode (the last name that was made of it is gone again). */
async function diff(snapshot: string, dataset: string, signal: AbortSignal): Promise<string | undefined> {
  const env = { ...process.env, LC_ALL: "C" };
  const options = { deadline: deadlineMs, env, maxOutput: most.output, signal };
  try {
    const { code, stdout } = await runProgram("zfs", ["diff", "-H", snapshot, dataset], options);
    return code === 0 ? stdout : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/** Paths below the mount, one character per byte; undefined where a line is none that is known. */
export function parseDifferences(text: string, mounts: readonly string[]): string[] | undefined {
  const paths = new Set<string>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [sign = "", ...fields] = line.split("\t");
    const told = sign === "R" ? fields : fields.slice(0, 1);
    if (!/^[-+MR]$/.test(sign) || told.length === 0 || fields.length > 2) return undefined;
    for (const field of told) {
      if (field.endsWith("(on_delete_queue)")) continue;
      const path = below(decode(field), mounts);
      if (path === undefined) return undefined;
      paths.add(path);
      const owner = `/${path}`.indexOf(attributes);
      if (owner >= 0) paths.add(path.slice(0, Math.max(0, owner - 1)));
    }
  }
  return [...paths];
}

const decode = (text: string): string =>
  text.replace(/\\([0-7]{4})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

function below(path: string, mounts: readonly string[]): string | undefined {
  for (const mount of mounts) {
    // Mount points are text, paths are bytes.
    const prefix = Buffer.from(mount).toString("latin1");
    if (path === prefix) return "";
    if (path.startsWith(`${prefix}/`)) return path.slice(prefix.length + 1).replace(/\/+$/, "");
  }
  return undefined;
}

function hasSeveralNames(place: string, paths: readonly string[], signal: AbortSignal): boolean {
  const root = openat2(AT_FDCWD, place, { flags: O.RDONLY | O.DIRECTORY });
  try {
    return paths.some((path) => {
      signal.throwIfAborted();
      return path !== "" && isLinked(root, path);
    });
  } finally {
    closeFd(root);
  }
}

/** What is not there any more has no names. */
function isLinked(root: number, path: string): boolean {
  let fd: number;
  try {
    const how = { flags: O.PATH | O.NOFOLLOW, resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV };
    fd = openat2(root, Buffer.from(path, "latin1"), how);
  } catch {
    return false;
  }
  try {
    const { mode, nlink } = statat(fd, "", false);
    return (mode & typeMask) !== directoryType && nlink > 1;
  } finally {
    closeFd(fd);
  }
}
