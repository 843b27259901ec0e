/**
 * Options of volumes on SMB (CIFS) servers, and what mount.cifs is told for them. Pure. A password is never part of it.
 *
 * `hard`: what a container has written is tried again until the server is back; the kernel's own default fails it.
 */
import type { VolumeSpec } from "../driver.ts";
import { parseReference } from "../secret-reference.ts";
import {
  checkNames,
  digits,
  parseHost,
  parsePath,
  parseShape,
  parseWords,
  refused,
  type Words,
} from "../share-options.ts";

/** Option -> what its value looks like; each becomes a word of the same name. */
const values = {
  vers: /^(1\.0|2\.0|2\.1|3|3\.0|3\.0\.2|3\.02|3\.1\.1|3\.11|default)$/,
  uid: digits,
  gid: digits,
  file_mode: /^0?[0-7]{3,4}$/,
  dir_mode: /^0?[0-7]{3,4}$/,
  port: /^\d{1,5}$/,
} as const;
const names = ["share", "device", "path", "username", "password", "credentials", "domain", ...Object.keys(values), "o"];

/** No comma, which ends a word, and nothing by which mount.cifs finds a domain or a password in a name. */
const userPattern = /^[^,%/\\]{1,255}$/;
const domainPattern = /^[^,%/\\]{1,255}$/;

const word = true;
const words: Words = {
  ro: word,
  rw: word,
  hard: word,
  soft: word,
  sec: /^(none|krb5|krb5i|ntlmv2|ntlmv2i|ntlmssp|ntlmsspi)$/,
  seal: word,
  sign: word,
  cache: /^(none|strict|loose)$/,
  actimeo: digits,
  acdirmax: digits,
  acregmax: digits,
  echo_interval: digits,
  rsize: digits,
  wsize: digits,
  bsize: digits,
  max_credits: digits,
  max_channels: digits,
  multichannel: word,
  nomultichannel: word,
  nosharesock: word,
  persistenthandles: word,
  nopersistenthandles: word,
  resilienthandles: word,
  noresilienthandles: word,
  iocharset: /^[a-z0-9-]+$/,
  mapposix: word,
  mapchars: word,
  nomapchars: word,
  nomapposix: word,
  mfsymlinks: word,
  serverino: word,
  noserverino: word,
  forceuid: word,
  noforceuid: word,
  forcegid: word,
  noforcegid: word,
  perm: word,
  noperm: word,
  dynperm: word,
  nodynperm: word,
  cifsacl: word,
  modefromsid: word,
  idsfromsid: word,
  posix: word,
  noposix: word,
  brl: word,
  nobrl: word,
  handlecache: word,
  nohandlecache: word,
  nostrictsync: word,
  strictsync: word,
  noatime: word,
  relatime: word,
  noexec: word,
  nosuid: word,
  suid: word,
};

const elsewhere = {
  username: "give the option username",
  user: "give the option username",
  password: "give the option password=@/path/to/file",
  pass: "give the option password=@/path/to/file",
  credentials: "give the option credentials=@/path/to/file",
  cred: "give the option credentials=@/path/to/file",
  domain: "give the option domain",
  ip: "the server stands in share=//SERVER/SHARE",
  addr: "the server stands in share=//SERVER/SHARE",
  prefixpath: "give the option path",
  guest: "a volume without a username is mounted as a guest",
  dev: "devices of a server have no effect here",
  ...Object.fromEntries(Object.keys(values).map((name) => [name, `give the option ${name}`])),
};

export type Account = { readonly username: string | undefined; readonly domain: string | undefined };

export type CifsShare = Account & {
  /** `//server/share`. */
  readonly share: string;
  readonly path: string | undefined;
  /** The option that refers to the password, or to the file with all three. */
  readonly secret: "password" | "credentials" | undefined;
  /** Words for `-o`, without who asks. */
  readonly words: readonly string[];
};

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): CifsShare {
  checkNames("cifs", options, names, []);
  const { share, device, path, o = "" } = options;
  if ((share ?? device ?? "") === "") throw refused('missing required option: "share"; give share=//SERVER/SHARE');
  if (share !== undefined && device !== undefined) throw refused("the options share and device are one: give share");
  const given = parseWords(o, words, elsewhere);
  const shaped = Object.entries(values).flatMap(([name, shape]) => {
    const value = parseShape(options, name, shape);
    return value === undefined ? [] : [`${name}=${value}`];
  });
  const own = [
    ...(given.includes("soft") || given.includes("hard") ? [] : ["hard"]),
    ...(given.includes("suid") ? [] : ["nosuid"]),
    "nodev",
  ];
  return {
    ...accountOf(options),
    share: parseShare(share === undefined ? "device" : "share", share ?? device ?? ""),
    path: path === undefined ? undefined : parsePath("path", path),
    words: [...own, ...shaped, ...given.filter((one) => one !== "nosuid")],
  };
}

function accountOf(options: VolumeSpec["options"]): Account & Pick<CifsShare, "secret"> {
  const { password, credentials } = options;
  const username = parseShape(options, "username", userPattern);
  const domain = parseShape(options, "domain", domainPattern);
  if (credentials !== undefined) {
    if (password !== undefined || username !== undefined)
      throw refused("credentials hold username and password: give credentials alone, or the others");
    parseReference("credentials", credentials);
    return { username, domain, secret: "credentials" };
  }
  if (password === undefined) {
    if (username === undefined) return { username, domain, secret: undefined };
    throw refused('missing required option: "password"; give password=@/path/to/file, or no username for a guest');
  }
  parseReference("password", password);
  if (username === undefined) throw refused('missing required option: "username"');
  return { username, domain, secret: "password" };
}

function parseShare(option: string, text: string): string {
  const [, host = "", share] = /^\/\/(\[[^\]]*\]|[^/]*)\/([^/]+)\/?$/.exec(text) ?? [];
  if (share === undefined)
    throw refused(
      `the option ${option} is no share: ${JSON.stringify(text)}; give //SERVER/SHARE, and what is below it as path`,
    );
  if (/:\d+$/.test(host) && !host.endsWith("]"))
    throw refused(`port not allowed in the option ${option}, give the option port`);
  const server = parseHost(option, host);
  // mount.cifs takes the colons of an address as they are.
  return `//${server.replace(/^\[|\]$/g, "")}/${parsePath(option, share)}`;
}

/** What a file of credentials says, in the form of mount.cifs. No message repeats it. */
export function parseCredentials(text: string): Account & { readonly password: string } {
  const found = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === "") continue;
    const [, name, value] = /^\s*(username|user|password|pass|domain|dom|workgroup)=(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw refused("the file of the option credentials has a line that is not username=, password= or domain=");
    found.set(
      name
        .replace(/^user$/, "username")
        .replace(/^pass$/, "password")
        .replace(/^(dom|workgroup)$/, "domain"),
      value,
    );
  }
  const [username, domain] = [found.get("username"), found.get("domain")];
  if (username === undefined || !userPattern.test(username))
    throw refused("the file of the option credentials has no username that can be one");
  if (domain !== undefined && !domainPattern.test(domain))
    throw refused("the file of the option credentials has a domain that cannot be one");
  return { username, domain, password: found.get("password") ?? "" };
}
