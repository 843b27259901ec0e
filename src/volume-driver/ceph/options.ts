/** Options of volumes on CephFS, and what ceph-fuse is told for them. Pure. A key is never part of it. */
import type { VolumeSpec } from "../driver.ts";
import { parseReference } from "../secret-reference.ts";
import { checkNames, parsePath, parseShape, parseWords, refused, type Words } from "../share-options.ts";
import { type Monitor, parseMonitors } from "./monitors.ts";

export type CephVolume = {
  readonly monitors: readonly Monitor[];
  /** Without `client.`. */
  readonly user: string;
  /** The name of the filesystem; undefined for the cluster's default. */
  readonly fs: string | undefined;
  /** Below the root of the filesystem; "" is the root. */
  readonly path: string;
  readonly acl: boolean;
  /** Seconds for the metadata servers to answer when it is mounted. */
  readonly timeout: number;
  /** Words for `-o`. */
  readonly words: readonly string[];
};

const words: Words = {
  ro: true,
  rw: true,
  acl: true,
  noatime: true,
  noexec: true,
  nosuid: true,
  suid: true,
  mount_timeout: /^[1-9]\d?$/,
};
const elsewhere = {
  name: "give the option user",
  secret: "give the option secret=@/path/to/file",
  secretfile: "give the option secret=@/path/to/file",
  fs: "give the option fs",
  mds_namespace: "give the option fs",
  mon_addr: "give the option mons",
};
/** Words of the mount itself; the others are the program's. */
const ofMount = ["ro", "noatime", "noexec"];
/** A cluster waits 60 s for a client that crashed before another has what that one had. */
const defaultTimeout = 80;

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): CephVolume {
  checkNames("ceph", options, ["mons", "user", "secret", "fs", "path", "o"], ["mons", "secret"]);
  const { mons = "", user = "admin", secret = "", path = "/", o = "" } = options;
  if (user.startsWith("client.")) throw refused(`the option user takes the name without "client.": ${user.slice(7)}`);
  parseReference("secret", secret);
  const given = parseWords(o, words, elsewhere);
  const timeout = given.findLast((word) => word.startsWith("mount_timeout="))?.split("=")[1];
  return {
    monitors: parseMonitors("mons", mons),
    user: parseShape({ user }, "user", /^[a-zA-Z0-9_][a-zA-Z0-9_.@-]{0,199}$/) ?? "",
    fs: parseShape(options, "fs", /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,199}$/),
    path: parseFolder(path),
    acl: given.includes("acl"),
    timeout: timeout === undefined ? defaultTimeout : Number(timeout),
    words: [given.includes("suid") ? "suid" : "nosuid", "nodev", ...given.filter((word) => ofMount.includes(word))],
  };
}

/** People write paths of a filesystem from its root; ceph-fuse would fill in what stands behind a `$`. */
function parseFolder(text: string): string {
  const names = text.replace(/^\/+|\/+$/g, "");
  if (names === "") return "";
  if (names.includes("$")) throw refused(`the option path can have no $ in it: ${JSON.stringify(text)}`);
  return parsePath("path", names);
}
