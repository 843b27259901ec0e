/**
 * Options of volumes on NFS, and what mount.nfs is told for them. Pure.
 *
 * `hard`: what a container has written is tried again until the server is back, however long; `soft` would fail it, and
 * programs that do not look lose data. `nodev` always and `nosuid` unless asked: the server's root is not this machine's.
 */
import type { VolumeSpec } from "../driver.ts";
import {
  checkNames,
  digits,
  parseChoice,
  parseHost,
  parsePath,
  parseWords,
  refused,
  type Words,
} from "../share-options.ts";

const names = ["share", "device", "path", "version", "o"];
const versions = ["3", "4", "4.0", "4.1", "4.2"] as const;

const word = true;
const words: Words = {
  ro: word,
  rw: word,
  hard: word,
  soft: word,
  softerr: word,
  timeo: digits,
  retrans: digits,
  rsize: digits,
  wsize: digits,
  proto: /^(tcp|udp|rdma|tcp6|udp6)$/,
  tcp: word,
  udp: word,
  port: /^\d{1,5}$/,
  mountport: /^\d{1,5}$/,
  mountproto: /^(tcp|udp|tcp6|udp6)$/,
  nconnect: /^(1[0-6]|[1-9])$/,
  sec: /^(sys|none|krb5|krb5i|krb5p)(:(sys|none|krb5|krb5i|krb5p))*$/,
  lock: word,
  nolock: word,
  local_lock: /^(all|flock|posix|none)$/,
  ac: word,
  noac: word,
  actimeo: digits,
  acregmin: digits,
  acregmax: digits,
  acdirmin: digits,
  acdirmax: digits,
  cto: word,
  nocto: word,
  lookupcache: /^(all|none|pos|positive)$/,
  acl: word,
  noacl: word,
  rdirplus: word,
  nordirplus: word,
  sharecache: word,
  nosharecache: word,
  resvport: word,
  noresvport: word,
  clientaddr: /^[0-9a-fA-F:.]+$/,
  noatime: word,
  nodiratime: word,
  relatime: word,
  sync: word,
  noexec: word,
  nosuid: word,
  suid: word,
};

const elsewhere = {
  addr: "the server stands in share=SERVER:/PATH",
  vers: "give the option version",
  nfsvers: "give the option version",
  minorversion: "give version=4.1",
  bg: "a container waits for its volume",
  dev: "devices of a server have no effect here",
};

export type NfsShare = {
  /** `server:/path`, as mount.nfs takes it. */
  readonly share: string;
  /** Below the share; the share itself when undefined. */
  readonly path: string | undefined;
  /** What stands behind `-o`. */
  readonly o: string;
};

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): NfsShare {
  checkNames("nfs", options, names, []);
  const { share, device, path, o = "" } = options;
  if ((share ?? device ?? "") === "") throw refused('missing required option: "share"; give share=SERVER:/PATH');
  if (share !== undefined && device !== undefined) throw refused("the options share and device are one: give share");
  const version = parseChoice(options, "version", versions);
  const given = parseWords(o, words, elsewhere);
  const own = [
    ...(version === undefined ? [] : [`vers=${version}`]),
    ...(given.some((one) => /^(hard|soft|softerr)$/.test(one)) ? [] : ["hard"]),
    ...["timeo=600", "retrans=2"].filter((one) => !given.some((other) => sameName(one, other))),
    // Who waits longer is told by our deadline; mount.nfs would try for two minutes.
    "retry=0",
    ...(given.includes("suid") ? [] : ["nosuid"]),
    "nodev",
  ];
  return {
    share: parseShare(share === undefined ? "device" : "share", share ?? device ?? ""),
    path: path === undefined ? undefined : parsePath("path", path),
    o: [...own, ...given.filter((one) => one !== "nosuid")].join(","),
  };
}

function parseShare(option: string, text: string): string {
  const [, host = "", path] = /^(\[[^\]]*\]|[^:]*):(\/.*)$/.exec(text) ?? [];
  if (path === undefined) throw refused(`the option ${option} is no share: ${JSON.stringify(text)}; give SERVER:/PATH`);
  if (path !== "/") parsePath(option, path.slice(1).replace(/\/$/, ""));
  return `${parseHost(option, host)}:${path}`;
}

const sameName = (one: string, other: string): boolean => one.split("=")[0] === other.split("=")[0];
