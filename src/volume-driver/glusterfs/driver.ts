/**
 * The glusterfs driver: a volume is a volume of a GlusterFS cluster, or a directory below one. The program glusterfs
 * mounts and serves it. Any of the servers tells where the data is; which of them hold it is the cluster's matter. To
 * remove a volume removes nothing of the cluster.
 */
import { EngineError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { type DirectoryKind, openDirectoryDriver } from "../directory-driver.ts";
import type { VolumeDriver, VolumeSpec } from "../driver.ts";
import type { MountProgram } from "../program-kind.ts";
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
import { makeOnShare } from "../share-path.ts";

const deadline = 60_000;

const glusterfs: DirectoryKind = {
  name: "glusterfs",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/glusterfs",
  requirements: [
    { kind: "program", name: "glusterfs", advice: "install the package glusterfs-client, or glusterfs-fuse" },
    { kind: "filesystem", name: "fuse", advice: "load the module fuse" },
  ],
  program: {
    check: (options) => void parseOptions(options),
    servers: ["glusterfs"],
    deadline,
    mount: async ({ spec, signal }, target) => {
      const volume = parseOptions(spec.options);
      const program = (path: string): MountProgram => programFor(volume, path, target);
      const path = volume.subdir ?? "";
      // The program mounts before it has asked its servers anything: what they say shows in a trial.
      await makeOnShare({ program, target, deadline, signal }, path);
      return program(path);
    },
  },
};

/** Opens the driver over `<root>/volume-drivers/glusterfs`. */
export function openGlusterfsDriver(options: { readonly root: string; readonly pool: Pool }): Promise<VolumeDriver> {
  return openDirectoryDriver(glusterfs, options);
}

type GlusterVolume = {
  readonly servers: readonly string[];
  readonly volume: string;
  readonly subdir: string | undefined;
  /** Words of the program. */
  readonly flags: readonly string[];
};

const onOff = /^(enable|disable)$/;
const yesNo = /^(yes|no)$/;
const words: Words = {
  ro: true,
  rw: true,
  acl: true,
  "attribute-timeout": digits,
  "entry-timeout": digits,
  "negative-timeout": digits,
  "direct-io-mode": onOff,
  "use-readdirp": yesNo,
  "log-level": /^(TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL|NONE)$/,
  noatime: true,
  noexec: true,
  nosuid: true,
  suid: true,
};
/** Words of the mount itself; the others are the program's. */
const ofMount = ["noatime", "noexec"];

/** Throws invalid_argument that names the option. */
export function parseOptions(options: VolumeSpec["options"]): GlusterVolume {
  checkNames("glusterfs", options, ["servers", "volume", "subdir", "port", "o"], ["servers", "volume"]);
  const { servers = "", subdir, o = "" } = options;
  const given = parseWords(o, words);
  const volume = parseShape(options, "volume", /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}$/) ?? "";
  const port = parseShape(options, "port", /^\d{1,5}$/);
  const mount = [
    ...(given.includes("suid") ? [] : ["nosuid"]),
    "nodev",
    ...given.filter((one) => ofMount.includes(one)),
  ];
  const flags = given.filter((one) => !["rw", "suid", "nosuid", ...ofMount].includes(one));
  return {
    servers: servers.split(",").map(parseServer),
    volume,
    subdir: subdir === undefined ? undefined : parsePath("subdir", subdir),
    flags: [
      ...(port === undefined ? [] : [`--volfile-server-port=${port}`]),
      ...flags.map((flag) => (flag === "ro" ? "--read-only" : `--${flag}`)),
      `--fuse-mountopts=${mount.join(",")}`,
    ],
  };
}

function parseServer(text: string): string {
  const host = parseHost("servers", text.trim());
  if (host.startsWith("[")) throw refused("the option servers takes names and IPv4 addresses: give the server a name");
  return host;
}

function programFor({ servers, volume, subdir, flags }: GlusterVolume, path: string, target: string): MountProgram {
  const where = [...servers.map((server) => `--volfile-server=${server}`), `--volfile-id=/${volume}`];
  const below = path === "" ? [] : [`--subdir-mount=/${path}`];
  const level = flags.some((flag) => flag.startsWith("--log-level=")) ? [] : ["--log-level=WARNING"];
  const args = ["--no-daemon", "--process-name=fuse", ...where, ...below, ...level, ...flags, "--log-file=-", target];
  const name = `${volume}${path === "" ? "" : `/${path}`}`;
  return { program: "glusterfs", args, serves: true, explain: (said) => explain({ servers, name, subdir }, said) };
}

type Asked = { readonly servers: readonly string[]; readonly name: string; readonly subdir: string | undefined };

const meanings = [
  [/subdirectory for mount .* is not found/, "not_found", ({ name }) => `the cluster has no directory ${name}`],
  [
    /failed to fetch volume file|failed to get the 'volume file'/,
    "not_found",
    ({ name, servers }) =>
      `the cluster of ${servers.join(", ")} has no volume ${name.split("/")[0]}, or it is not started`,
  ],
  [
    /connection attempt on .* failed|DNS resolution failed|received signum \(1\)/,
    "unavailable",
    ({ servers }) => `none of ${servers.join(", ")} answers`,
  ],
  [
    /authentication failed/i,
    "forbidden",
    ({ name }) => `the cluster does not let this machine mount ${name}; look at auth.allow of the volume`,
  ],
] as const satisfies readonly (readonly [RegExp, EngineError["code"], (asked: Asked) => string])[];

/** What glusterfs writes to its log, in words that say what to do. */
export function explain(asked: Asked, said: string): EngineError | undefined {
  const found = meanings.find(([pattern]) => pattern.test(said));
  return found && new EngineError(found[1], found[2](asked));
}
