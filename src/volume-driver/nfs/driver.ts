/**
 * The nfs driver: a volume is a share of an NFS server, or a directory below one. The kernel mounts it, through
 * mount.nfs. What is on the server belongs to whoever uses it, on any machine: to remove a volume removes none of it.
 */
import { EngineError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { type DirectoryKind, openDirectoryDriver } from "../directory-driver.ts";
import type { VolumeDriver } from "../driver.ts";
import type { MountProgram } from "../program-kind.ts";
import { makeOnShare } from "../share-path.ts";
import { type NfsShare, parseOptions } from "./options.ts";

const deadline = 60_000;

const nfs: DirectoryKind = {
  name: "nfs",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/nfs",
  requirements: [{ kind: "program", name: "mount.nfs", advice: "install the package nfs-common, or nfs-utils" }],
  program: {
    check: (options) => void parseOptions(options),
    servers: [],
    deadline,
    mount: async ({ spec, signal }, target) => {
      const share = parseOptions(spec.options);
      const program = (path: string): MountProgram => programFor(share, path, target);
      if (share.path !== undefined) await makeOnShare({ program, target, deadline, signal }, share.path);
      return program(share.path ?? "");
    },
  },
};

/** Opens the driver over `<root>/volume-drivers/nfs`. */
export function openNfsDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  return openDirectoryDriver(nfs, options);
}

function programFor({ share, o }: NfsShare, path: string, target: string): MountProgram {
  const device = path === "" ? share : `${share.replace(/\/$/, "")}/${path}`;
  const args = ["-t", "nfs", "-o", o, "--", device, target];
  return { program: "mount", args, serves: false, explain: (said) => explain(device, said) };
}

const meanings = [
  [/No such file or directory/, "not_found", (device) => `the server has no ${device}`],
  [
    /access denied|Operation not permitted|Permission denied/,
    "forbidden",
    (device) => `the server does not let this machine mount ${device}; look at its exports`,
  ],
  [
    /Failed to resolve server|Name or service not known/,
    "unavailable",
    (device) => `the server of ${device} is not known: look at the name`,
  ],
  [
    /rpc\.statd is not running/,
    "unsupported",
    () =>
      "locks of NFS 3 need rpc.statd on this machine: start it, or give o=nolock, by which locks hold on this machine alone",
  ],
  [
    /Connection refused|No route to host|Connection timed out|Network is unreachable|Connection reset/,
    "unavailable",
    (device) => `the server of ${device} does not answer`,
  ],
  [
    /Protocol not supported|requested NFS version or transport protocol is not supported/,
    "unsupported",
    (device) => `the server of ${device} does not have this version of NFS; give another version, or none`,
  ],
] as const satisfies readonly (readonly [RegExp, EngineError["code"], (device: string) => string])[];

/** What mount.nfs says, in words that say what to do. */
export function explain(device: string, said: string): EngineError | undefined {
  const found = meanings.find(([pattern]) => pattern.test(said));
  return found && new EngineError(found[1], `${found[2](device)} (${said.trim().split("\n").at(-1)?.slice(0, 200)})`);
}
