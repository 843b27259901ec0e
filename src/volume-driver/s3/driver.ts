/**
 * The s3 driver: a volume is a bucket, or a part of one, mounted by rclone. What is written goes into a cache on disk
 * and from there to the server; the last use is over only when the server has it all.
 *
 *     <folder>/<name>/cache/      0700  rclone's; stays while it has what the server has not, gone after the last use
 */
import { join } from "node:path";
import { EngineError } from "../../base/errors.ts";
import type { Pool } from "../../host/pool.ts";
import { type DirectoryKind, openDirectoryDriver } from "../directory-driver.ts";
import type { VolumeDriver } from "../driver.ts";
import type { MountContext, MountProgram, ProgramKind } from "../program-kind.ts";
import { parseOptions, type S3Options } from "./options.ts";
import { endpointOf, probeBucket, type S3Keys } from "./probe.ts";

const tasks = new URL("./cache-notes.ts", import.meta.url);

const program: ProgramKind = {
  check: (options) => void parseOptions(options),
  servers: ["rclone"],
  mount,
  unsaved,
  scratch: "cache",
};

const s3: DirectoryKind = {
  name: "s3",
  traits: { scope: "global", prunable: false, ownsParent: false, remote: true, keepsData: true },
  folder: "volume-drivers/s3",
  fixedOptions: ["bucket", "prefix"],
  program,
  requirements: [
    { kind: "program", name: "rclone", advice: "install the package rclone" },
    { kind: "program", name: "fusermount", advice: "install the package fuse3" },
    { kind: "filesystem", name: "fuse", advice: "load the module fuse" },
  ],
};

export type S3DriverOptions = {
  readonly root: string;
  readonly pool: Pool;
  /** Milliseconds that the end of a last use waits for the server to have everything. */
  readonly patience?: number;
};

/** Opens the driver over `<root>/volume-drivers/s3`. */
export function openS3Driver({ patience, ...options }: S3DriverOptions): Promise<VolumeDriver> {
  const kind = patience === undefined ? s3 : { ...s3, program: { ...program, patience } };
  return openDirectoryDriver(kind, options);
}

async function mount(context: MountContext, target: string): Promise<MountProgram> {
  const options = parseOptions(context.spec.options);
  const keys = { access: await lineOf(context, "access_key"), secret: await lineOf(context, "secret_key") };
  await probeBucket(options, keys, context.signal);
  await context.pool.run<string, void>(tasks, "mendNotesTask", cacheOf(context));
  const place = options.prefix === "" ? options.bucket : `${options.bucket}/${options.prefix}`;
  return {
    program: "rclone",
    args: ["mount", "--config", "", ...wordsOf(context, options), "--", `strata:${place}`, target],
    env: environmentOf(options, keys),
    serves: true,
  };
}

async function lineOf({ secret }: MountContext, option: string): Promise<string> {
  const text = await secret(option);
  if (!/[\r\n]/.test(text)) return text;
  throw new EngineError("invalid_argument", `the file that the option ${option} refers to must hold one line`);
}

const cacheOf = ({ folder }: MountContext): string => join(folder, "cache");

function wordsOf(context: MountContext, options: S3Options): readonly string[] {
  const { cacheMode, cacheSize, uid, gid } = options;
  return [
    ...["--cache-dir", cacheOf(context), "--vfs-cache-mode", cacheMode, "--vfs-cache-max-size", `${cacheSize}B`],
    // A file that is changed again at once is sent once.
    ...["--vfs-write-back", "1s", "--dir-cache-time", "10s", "--poll-interval", "0"],
    ...["--allow-other", "--umask", "0", "--uid", uid, "--gid", gid, "--log-level", "ERROR"],
    ...(options.readonly ? ["--read-only"] : []),
  ];
}

/**
 * Only root reads the environment of root's process. Everything is said here and nothing in flags: those would become
 * part of the remote's name, and the cache of what is not sent yet is found by that name.
 */
function environmentOf(options: S3Options, keys: S3Keys): Readonly<Record<string, string>> {
  const words = {
    TYPE: "s3",
    PROVIDER: options.endpoint === undefined ? "AWS" : "Other",
    ENDPOINT: endpointOf(options),
    REGION: options.region,
    ACCESS_KEY_ID: keys.access,
    SECRET_ACCESS_KEY: keys.secret,
    ENV_AUTH: "false",
    NO_CHECK_BUCKET: "true",
  };
  return Object.fromEntries(Object.entries(words).map(([name, value]) => [`RCLONE_CONFIG_STRATA_${name}`, value]));
}

async function unsaved(context: MountContext): Promise<string | undefined> {
  const count = await context.pool.run<string, number>(tasks, "unsavedTask", cacheOf(context));
  if (count === 0) return undefined;
  return `${count} files of the volume ${context.spec.name} have not reached the server; use the volume once while the server answers, or remove ${cacheOf(context)} to give them up`;
}
