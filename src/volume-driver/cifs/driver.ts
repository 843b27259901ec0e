/**
 * The cifs driver: a volume is a share of an SMB server (Samba, Windows, a NAS, Azure Files), or a directory below one.
 * The kernel mounts it, through mount.cifs, which reads the password from its stdin: it stands on no command line, in no
 * environment and in no file of ours. To remove a volume removes nothing on the server.
 */
import { EngineError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { type DirectoryKind, openDirectoryDriver } from "../directory-driver.ts";
import type { VolumeDriver } from "../driver.ts";
import type { MountContext, MountProgram } from "../program-kind.ts";
import { refused } from "../share-options.ts";
import { makeOnShare } from "../share-path.ts";
import { type Account, type CifsShare, parseCredentials, parseOptions } from "./options.ts";

const deadline = 60_000;
/** What mount.cifs has room for. */
const longestPassword = 512;

const cifs: DirectoryKind = {
  name: "cifs",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/cifs",
  requirements: [{ kind: "program", name: "mount.cifs", advice: "install the package cifs-utils" }],
  program: {
    check: (options) => void parseOptions(options),
    servers: [],
    deadline,
    mount: async (context, target) => {
      const share = parseOptions(context.spec.options);
      const login = await loginOf(share, context);
      const program = (path: string): MountProgram => programFor(share, login, { path, target });
      if (share.path !== undefined)
        await makeOnShare({ program, target, deadline, signal: context.signal }, share.path);
      return program(share.path ?? "");
    },
  },
};

/** Opens the driver over `<root>/volume-drivers/cifs`. */
export function openCifsDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  return openDirectoryDriver(cifs, options);
}

type Login = Account & { readonly password: string | undefined };

async function loginOf({ username, domain, secret }: CifsShare, { secret: read }: MountContext): Promise<Login> {
  if (secret === undefined) return { username, domain, password: undefined };
  const text = await read(secret);
  const login = secret === "password" ? { username, domain, password: text } : parseCredentials(text);
  if (/[\r\n]/.test(login.password) || Buffer.byteLength(login.password) > longestPassword)
    throw refused(`the password of the option ${secret} has several lines, or more than ${longestPassword} bytes`);
  return { ...login, domain: login.domain ?? domain };
}

function programFor(
  { share, words }: CifsShare,
  { username, domain, password }: Login,
  { path, target }: { readonly path: string; readonly target: string },
): MountProgram {
  const device = path === "" ? share : `${share}/${path}`;
  const who = username === undefined ? ["guest"] : [`username=${username}`];
  const o = [...who, ...(domain === undefined ? [] : [`domain=${domain}`]), ...words].join(",");
  return {
    program: "mount.cifs",
    args: [device, target, "-o", o],
    ...(password === undefined ? {} : { input: password, env: { PASSWD_FD: "0" } }),
    serves: false,
    explain: (said) => explain(device, said),
  };
}

const meanings = [
  [/error\(2\)|error\(20\)/, "not_found", (device) => `the server has no ${device}`],
  [
    /error\((13|1|126|127|128|129)\)/,
    "forbidden",
    (device) => `the server refuses ${device}: look at username, password and domain, and who may use the share`,
  ],
  [/could not resolve address/, "unavailable", (device) => `the server of ${device} is not known: look at the name`],
  [
    /error\((22|95|93|524)\)/,
    "unsupported",
    (device) => `the kernel or the server refuses these options for ${device}: look at vers and o`,
  ],
  [
    /error\((11|101|103|104|110|111|112|113|115)\)/,
    "unavailable",
    (device) => `the server of ${device} does not answer`,
  ],
] as const satisfies readonly (readonly [RegExp, EngineError["code"], (device: string) => string])[];

/** What mount.cifs says, in words that say what to do. */
export function explain(device: string, said: string): EngineError | undefined {
  const found = meanings.find(([pattern]) => pattern.test(said));
  return found && new EngineError(found[1], `${found[2](device)} (${said.split("\n")[0]?.slice(0, 200)})`);
}
