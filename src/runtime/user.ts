/**
 * Who a container's process runs as: `user[:group]`, by name or number, against the container's own /etc/passwd and
 * /etc/group. Both files belong to a stranger: they are opened inside the root, and only when they are regular files of
 * a sane size.
 */
import { fstat as fstatCallback, read as readCallback } from "node:fs";
import { promisify } from "node:util";
import { EngineError, systemCode } from "../base/errors.ts";
import { closeFd, O, openat2, RESOLVE } from "../host/sys.ts";

const fstat = promisify(fstatCallback);
const read = promisify(readCallback);
const largestFile = 4 * 1024 * 1024;
const largestId = 2 ** 31 - 1;

export type ResolvedUser = {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  /** Home directory by /etc/passwd; "/" when it names none. */
  readonly home: string;
};

type Entry = readonly string[];

/** Resolves `user` ("" is root) and `groupAdd` inside `rootfs`. Throws invalid_argument in Docker's words. */
export async function resolveUser(
  rootfs: string,
  user: string,
  groupAdd: readonly string[] = [],
): Promise<ResolvedUser> {
  const root = openat2(-100, rootfs, { flags: O.PATH | O.DIRECTORY });
  try {
    const [passwd, group] = await Promise.all([entries(root, "etc/passwd"), entries(root, "etc/group")]);
    return resolveIn(passwd, group, user, groupAdd);
  } finally {
    closeFd(root);
  }
}

function resolveIn(
  passwd: readonly Entry[],
  group: readonly Entry[],
  user: string,
  groupAdd: readonly string[],
): ResolvedUser {
  const colon = user.indexOf(":");
  const userPart = colon < 0 ? user : user.slice(0, colon);
  const groupPart = colon < 0 ? "" : user.slice(colon + 1);
  const known = passwd.find(
    (entry) => (userPart !== "" && entry[0] === userPart) || (entry[2] !== "" && entry[2] === (userPart || "0")),
  );
  const uid = known === undefined ? numberOr(userPart || "0", "user", "unable") : Number(known[2]);
  const named = groupPart === "" ? undefined : groupId(group, groupPart);
  const gid = named ?? (known === undefined ? 0 : Number(known[3]));
  const own = groupPart === "" && known !== undefined ? memberships(group, known[0] ?? "") : [];
  const added = groupAdd.map((name) => groupId(group, name, "Unable"));
  return { uid, gid, additionalGids: [...new Set([gid, ...own, ...added])], home: known?.[5] || "/" };
}

function memberships(group: readonly Entry[], name: string): number[] {
  return group.filter((entry) => entry[3]?.split(",").includes(name)).map((entry) => Number(entry[2]));
}

/** `how` begins the refusal: what Docker says of `--group-add` has a capital letter. */
function groupId(group: readonly Entry[], name: string, how: "unable" | "Unable" = "unable"): number {
  const found = group.find((entry) => entry[0] === name || entry[2] === name);
  return found === undefined ? numberOr(name, "group", how) : Number(found[2]);
}

function numberOr(text: string, kind: "user" | "group", how: string): number {
  if (!/^-?\d+$/.test(text)) {
    const file = kind === "user" ? "passwd" : "group";
    throw new EngineError("invalid_argument", `${how} to find ${kind} ${text}: no matching entries in ${file} file`);
  }
  const id = Number(text);
  if (id < 0 || id > largestId)
    throw new EngineError("invalid_argument", `uids and gids must be in range 0-${largestId}`);
  return id;
}

/** Lines of a passwd-like file with a name and a numeric id; none when the container has no such file. */
async function entries(root: number, path: string): Promise<Entry[]> {
  const text = await contents(root, path);
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"))
    .filter((entry) => validId(entry[2]) && (path !== "etc/passwd" || validId(entry[3])));
}

const validId = (text: string | undefined): boolean => text !== undefined && /^\d+$/.test(text) && +text <= largestId;

async function contents(root: number, path: string): Promise<string> {
  let file: number;
  try {
    file = openat2(root, path, { flags: O.RDONLY | O.NONBLOCK, resolve: RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS });
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ELOOP", "ENXIO"].includes(systemCode(error) ?? "")) return "";
    throw error;
  }
  try {
    const stat = await fstat(file);
    if (!stat.isFile()) return "";
    if (stat.size > largestFile)
      throw new EngineError(
        "invalid_argument",
        `/${path} of the container has ${stat.size} bytes; at most ${largestFile} are read`,
      );
    return await readAll(file, stat.size);
  } finally {
    closeFd(file);
  }
}

async function readAll(file: number, size: number): Promise<string> {
  const buffer = Buffer.alloc(size);
  let filled = 0;
  while (filled < size) {
    const { bytesRead } = await read(file, buffer, filled, size - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.toString("utf8", 0, filled);
}
