/** Options of the sshfs driver. Every word is checked before a program sees it: none can become an option of that. */
import { EngineError } from "../../base/errors.ts";
import type { VolumeSpec } from "../driver.ts";
import { refuseUnknown } from "../option-names.ts";
import { parseReference } from "../secret-reference.ts";

export type SshfsOptions = {
  readonly host: string;
  readonly user: string;
  /** Undefined: what the program takes for it. */
  readonly port: string | undefined;
  /** On the server; empty for the user's home. */
  readonly path: string;
  readonly secret: "identity" | "password";
  readonly knownHosts: boolean;
  readonly allowOther: boolean;
  readonly readonly: boolean;
  /** Whom files seem to belong to, instead of the server's owners. */
  readonly uid: string | undefined;
  readonly gid: string | undefined;
};

const names = [
  ...[
    "sshcmd",
    "host",
    "user",
    "path",
    "port",
    "identity",
    "password",
    "known_hosts",
    "allow_other",
    "ro",
    "uid",
    "gid",
  ],
];

type Options = VolumeSpec["options"];

/** Throws invalid_argument that names the option. */
export function parseOptions(options: Options): SshfsOptions {
  refuseUnknown("sshfs", options, names);
  return {
    ...placeOf(options),
    port: number(options, "port", 65535),
    secret: secretOf(options),
    knownHosts: isReference(options, "known_hosts"),
    allowOther: flag(options, "allow_other", true),
    readonly: flag(options, "ro", false),
    uid: number(options, "uid", 2 ** 32 - 2),
    gid: number(options, "gid", 2 ** 32 - 2),
  };
}

type Place = Pick<SshfsOptions, "host" | "user" | "path">;

/** `sshcmd=user@host:path`, the word of Docker's sshfs plugin, or its parts. */
function placeOf(options: Options): Place {
  const { sshcmd } = options;
  if (sshcmd === undefined) return checked({ host: "", user: "root", path: "", ...partsOf(options) });
  for (const name of ["host", "user", "path"])
    if (options[name] !== undefined)
      throw new EngineError("invalid_argument", `the options sshcmd and ${name} exclude one another`);
  const match = /^(?:([^@:/]*)@)?(\[[^\]]*\]|[^:[\]]*):(.*)$/s.exec(sshcmd);
  if (match === null) throw invalid("sshcmd", sshcmd, "user@host:/path");
  const [, user = "root", host = "", path = ""] = match;
  return checked({ user, host: host.replace(/^\[(.*)\]$/s, "$1"), path });
}

const partsOf = ({ host, user, path }: Options): Partial<Place> => ({
  ...(host === undefined ? {} : { host }),
  ...(user === undefined ? {} : { user }),
  ...(path === undefined ? {} : { path }),
});

function checked({ host, user, path }: Place): Place {
  if (host === "")
    throw new EngineError("invalid_argument", 'missing required option: "sshcmd" (user@host:/path), or "host"');
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$|^[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?$/.test(host) || host.length > 255)
    throw invalid("host", host, "a host name or an address");
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$/.test(user) || user.length > 64) throw invalid("user", user, "a user's name");
  if (/[\x00-\x1f\x7f]/.test(path) || path.length > 4000) throw invalid("path", path, "a path on the server");
  return { host, user, path };
}

function secretOf(options: Options): SshfsOptions["secret"] {
  const given = (["identity", "password"] as const).filter((name) => isReference(options, name));
  const [secret] = given;
  if (secret !== undefined && given.length === 1) return secret;
  throw new EngineError(
    "invalid_argument",
    secret === undefined
      ? 'missing required option: "identity" or "password"; identity=@/path/to/file names the file with the private key'
      : "the options identity and password exclude one another",
  );
}

function isReference(options: Options, name: string): boolean {
  const value = options[name];
  if (value !== undefined) parseReference(name, value);
  return value !== undefined;
}

function number(options: Options, name: string, most: number): string | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  if (/^(0|[1-9]\d{0,9})$/.test(value) && Number(value) <= most) return value;
  throw invalid(name, value, "a number");
}

/** `-o allow_other` has an empty value. */
function flag(options: Options, name: string, byDefault: boolean): boolean {
  const value = options[name];
  if (value === undefined) return byDefault;
  if (value === "" || value === "true") return true;
  if (value === "false") return false;
  throw invalid(name, value, "true or false");
}

const invalid = (name: string, value: string, wanted: string): EngineError =>
  new EngineError(
    "invalid_argument",
    `invalid value of the option ${name}: ${JSON.stringify(value)}; it takes ${wanted}`,
  );
