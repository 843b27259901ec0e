/**
 * The ceph driver: a volume is a directory of a CephFS. The program ceph-fuse mounts and serves it, so no kernel needs to
 * know Ceph; it reads no configuration of the machine, and the key straight from the user's file. To remove a volume
 * removes nothing of the cluster.
 *
 *     <folder>/<name>/run/key     a link to the file that the option secret refers to
 */
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, isError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver } from "../driver.ts";
import type { MountContext, MountProgram } from "../program-kind.ts";
import { makeBelowShare, makeOnShare, type ShareMaker } from "../share-path.ts";
import { formOfKey } from "./key.ts";
import { doorsOf, formatMonitors, namesOf, resolveMonitors } from "./monitors.ts";
import { type CephVolume, parseOptions } from "./options.ts";
import { probeMonitors } from "./probe.ts";

/** Beyond the longest `mount_timeout`. */
const deadline = 100_000;

const ceph: DirectoryKind = {
  name: "ceph",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/ceph",
  requirements: [
    { kind: "program", name: "ceph-fuse", advice: "install the package ceph-fuse" },
    { kind: "filesystem", name: "fuse", advice: "load the module fuse" },
  ],
  program: {
    check: (options) => void parseOptions(options),
    servers: ["ceph-fuse"],
    deadline,
    mount,
    patience: 10_000,
    // It sends what was written behind the writer's back, and ends when the cluster has it.
    saving: 600_000,
  },
};

/** Opens the driver over `<root>/volume-drivers/ceph`. */
export function openCephDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  return openDirectoryDriver(ceph, options);
}

async function mount(context: MountContext, target: string): Promise<MountProgram> {
  const volume = parseOptions(context.spec.options);
  const key = join(context.run, "key");
  // ceph-fuse names the mount to a shell, and reads several files where a name has blanks or commas.
  if (/[^\p{L}\p{N}_./+:@%-]/u.test(key))
    throw new EngineError("unsupported", `ceph-fuse cannot mount below ${context.folder}: blanks or signs in the path`);
  const form = formOfKey("secret", await context.secret("secret"), volume.user);
  await symlink(await context.secretPath("secret"), key);
  const monitors = await resolveMonitors(volume.monitors, context.signal);
  await probeMonitors(doorsOf(monitors), namesOf(volume.monitors), context.signal);
  const where = ["-m", formatMonitors(monitors), `--${form}=${key}`];
  const program = (path: string): MountProgram => programFor({ ...volume, path }, where, target);
  if (volume.path !== "") await makePath({ program, target, deadline, signal: context.signal }, volume.path);
  return program(volume.path);
}

/** From the root, where the user may: a ceph-fuse whose directory is missing keeps what it looked at from others for a minute. */
async function makePath(maker: ShareMaker, path: string): Promise<void> {
  try {
    await makeBelowShare(maker, path);
  } catch (error) {
    if (!isError(error, "forbidden")) throw error;
    await makeOnShare(maker, path);
  }
}

function programFor(volume: CephVolume, where: readonly string[], target: string): MountProgram {
  const { user, fs, path, acl, timeout, words } = volume;
  return {
    program: "ceph-fuse",
    args: [
      // No configuration, log or socket of the machine, and none of the cluster: waiting for that has no deadline.
      ...["-f", "-c", "/dev/null", "--no-mon-config", "--log-file=", "--admin-socket="],
      ...[`--client_mount_timeout=${timeout}`, "-n", `client.${user}`, ...where],
      ...(fs === undefined ? [] : [`--client_fs=${fs}`]),
      ...(acl ? ["--client_acl_type=posix_acl"] : []),
      ...["-r", `/${path}`, "-o", words.join(","), target],
    ],
    serves: true,
    explain: (said) => explain(volume, said),
  };
}

const meanings = [
  [
    /authentication failed: \((1|13)\)|handle_auth_bad_method/,
    "forbidden",
    ({ user }) => `the cluster does not let client.${user} in with this key`,
  ],
  [
    /authentication failed: \(95\)/,
    "unsupported",
    ({ monitors }) => `the cluster of ${namesOf(monitors)} wants another way to log in than a key`,
  ],
  [/authentication failed: \(110\)/, "unavailable", (volume) => silence(volume)],
  [
    /mdsmap subscription failed: \(2\)/,
    "not_found",
    ({ fs }) => (fs === undefined ? "the cluster has no filesystem" : `the cluster has no filesystem ${fs}`),
  ],
  [
    /mdsmap subscription failed: \((1|13)\)/,
    "forbidden",
    ({ user, fs }) => `client.${user} may not use the filesystem ${fs ?? "of the cluster"}`,
  ],
  [
    /rejected us \(/,
    "forbidden",
    ({ user, path }) =>
      `client.${user} may not mount /${path}; 'ceph fs authorize' lets it, or give a path below which it may`,
  ],
  [
    /mount failed with\s[\s\S]*?\(2\)/,
    "not_found",
    ({ path, fs }) => `there is no directory /${path} in the filesystem${fs === undefined ? "" : ` ${fs}`}`,
  ],
  [/mount failed with\s[\s\S]*?\((1|13)\)/, "forbidden", ({ user, path }) => `client.${user} may not mount /${path}`],
  [
    /mount failed with\s[\s\S]*?\(110\)/,
    "unavailable",
    ({ timeout }) =>
      `the monitors answer, but no metadata server of the filesystem does within ${timeout} s; look at 'ceph fs status'`,
  ],
] as const satisfies readonly (readonly [RegExp, EngineError["code"], (volume: CephVolume) => string])[];

/** It has answered a moment ago. A monitor that is away hides from v1 that another refuses. */
function silence({ monitors, user, timeout }: CephVolume): string {
  const words = `the monitors ${namesOf(monitors)} did not let client.${user} in within ${timeout} s`;
  return monitors.length === 1 ? words : `${words}; one that is away hides that another refuses the key`;
}

/** What ceph-fuse says, in words that say what to do. */
export function explain(volume: CephVolume, said: string): EngineError | undefined {
  const found = meanings.find(([pattern]) => pattern.test(said));
  return found && new EngineError(found[1], found[2](volume));
}
