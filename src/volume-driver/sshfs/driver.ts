/**
 * The sshfs driver: a volume is a directory of another machine, reached over ssh. The server must be one whose key is
 * known: an unknown key is an error, never a question. ssh reads nothing of root's own configuration, keys or agent.
 *
 *     <folder>/<name>/run/ssh_config     what ssh is told
 *     <folder>/<name>/run/identity       a link to the private key that an option refers to
 */
import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver } from "../driver.ts";
import type { MountContext, MountProgram, ProgramKind } from "../program-kind.ts";
import { parseOptions, type SshfsOptions } from "./options.ts";

const program: ProgramKind = {
  check: (options) => void parseOptions(options),
  servers: ["sshfs", "ssh"],
  mount,
};

const sshfs: DirectoryKind = {
  name: "sshfs",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/sshfs",
  program,
  requirements: [
    { kind: "program", name: "sshfs", advice: "install the package sshfs" },
    { kind: "program", name: "ssh", advice: "install the package openssh-client" },
    { kind: "filesystem", name: "fuse", advice: "load the module fuse" },
  ],
};

/** Opens the driver over `<root>/volume-drivers/sshfs`. */
export function openSshfsDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  return openDirectoryDriver(sshfs, options);
}

async function mount(context: MountContext, target: string): Promise<MountProgram> {
  const options = parseOptions(context.spec.options);
  const config = join(context.run, "ssh_config");
  const password = options.secret === "password" ? await passwordOf(context) : undefined;
  await writeFile(config, await configText(context, options), { mode: 0o600 });
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const words = ["reconnect", "default_permissions", "nosuid", "nodev", ...wordsOf(options)];
  if (password !== undefined) words.push("password_stdin");
  return {
    program: "sshfs",
    args: ["-f", "-F", config, "-o", words.join(","), "--", `${options.user}@${host}:${options.path}`, target],
    ...(password === undefined ? {} : { input: password }),
    serves: true,
    explain: (said) => explain(said, options),
  };
}

/** sshfs takes one line. */
async function passwordOf({ secret }: MountContext): Promise<string> {
  const password = await secret("password");
  if (!/[\r\n]/.test(password)) return `${password}\n`;
  throw new EngineError("invalid_argument", "the file that the option password refers to must hold one line");
}

function wordsOf({ allowOther, readonly, uid, gid }: SshfsOptions): readonly string[] {
  return [
    ...(allowOther ? ["allow_other"] : []),
    ...(readonly ? ["ro"] : []),
    ...(uid === undefined ? [] : [`uid=${uid}`]),
    ...(gid === undefined ? [] : [`gid=${gid}`]),
  ];
}

/** An address in which no word is a stranger's: what ssh reads besides are fixed names in the folder of the volume. */
async function configText(context: MountContext, options: SshfsOptions): Promise<string> {
  const { run } = context;
  if (/["\\$\n]/.test(run)) throw new EngineError("unsupported", `ssh cannot be told of files below ${run}`);
  const quoted = (name: string): string => `"${join(run, name).replaceAll("%", "%%")}"`;
  const lines = [
    "StrictHostKeyChecking yes",
    "UpdateHostKeys no",
    "ConnectTimeout 10",
    "ServerAliveInterval 15",
    "ServerAliveCountMax 3",
    "IdentitiesOnly yes",
    "IdentityAgent none",
    "NumberOfPasswordPrompts 1",
    ...(options.port === undefined ? [] : [`Port ${options.port}`]),
  ];
  if (options.secret === "identity") {
    await symlink(await context.secretPath("identity"), join(run, "identity"));
    lines.push("BatchMode yes", "PreferredAuthentications publickey", `IdentityFile ${quoted("identity")}`);
  } else lines.push("PubkeyAuthentication no", "PreferredAuthentications password,keyboard-interactive");
  if (options.knownHosts) {
    await symlink(await context.secretPath("known_hosts", "public"), join(run, "known_hosts"));
    lines.push(`UserKnownHostsFile ${quoted("known_hosts")}`, "GlobalKnownHostsFile none");
  }
  return `${lines.join("\n")}\n`;
}

function explain(said: string, { host, user, path, secret }: SshfsOptions): EngineError | undefined {
  if (said.includes("IDENTIFICATION HAS CHANGED"))
    return new EngineError(
      "forbidden",
      `the host key of ${host} is not the one in known_hosts: somebody may be in between, or the server was made anew`,
    );
  if (said.includes("Host key verification failed"))
    return new EngineError(
      "forbidden",
      `the host key of ${host} is not known: put it into a file, after comparing it, and name that with known_hosts=@/path/to/file`,
    );
  if (/Load key .*: (invalid format|error in libcrypto|incorrect passphrase)/.test(said))
    return new EngineError(
      "invalid_argument",
      "the file that the option identity refers to holds no private key that ssh can read alone",
    );
  if (/Permission denied|Too many authentication failures/.test(said))
    return new EngineError("forbidden", `${host} does not let the user ${user} in with this ${secret}`);
  if (
    /Connection refused|timed out|No route to host|Network is unreachable|Could not resolve|Connection closed/.test(
      said,
    )
  )
    return new EngineError("unavailable", `${host} does not answer: ${said.split("\n")[0]?.trim()}`);
  if (/No such file or directory/.test(said))
    return new EngineError("not_found", `there is no directory ${path || "~"} on ${host}`);
  return undefined;
}
