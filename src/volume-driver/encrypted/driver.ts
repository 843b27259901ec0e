/**
 * The encrypted driver: a volume whose names and contents are on disk only as gocryptfs writes them. The key is a file
 * that an option refers to; it is read for every first use, handed over on stdin, and never kept.
 *
 *     <folder>/<name>/cipher/     0700  what is encrypted, and gocryptfs.conf; or the directory that the option `device` names
 *     <folder>/<name>/_data/            the plain view, while the volume is used
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../../base/errors.ts";
import { runProgram } from "../../host/program.ts";
import { type DirectoryOptions, openDirectoryDriver } from "../directory-driver.ts";
import type { DirectoryKind } from "../directory-kind.ts";
import type { VolumeDriver } from "../driver.ts";
import { FolderContent } from "../folder-content.ts";
import type { MountContext, ProgramKind } from "../program-kind.ts";
import { lookAtDevice } from "./device.ts";
import { parseOptions } from "./options.ts";

const cipherName = "cipher";
const tasks = new URL("./usage-task.ts", import.meta.url);
/** Milliseconds. */
const initDeadline = 60_000;

const program: ProgramKind = {
  check: (options) => void parseOptions(options),
  servers: ["gocryptfs"],
  prepare,
  mount: async (context, target) => ({
    program: "gocryptfs",
    args: ["-fg", "-allow_other", "--", cipherOf(context), target],
    input: await keyOf(context),
    // Before it says so it looks at its own mount once; who makes a file in that moment stops it for ever (go-fuse).
    ready: "Filesystem mounted and ready.",
    serves: true,
    explain,
  }),
  usage: async (context) => {
    const { pool, signal } = context;
    const options = signal === undefined ? {} : { signal };
    return pool.run<string, number>(tasks, "plainSizeTask", cipherOf(context), options);
  },
};

const encrypted: DirectoryKind = {
  name: "encrypted",
  traits: { scope: "local", prunable: true, ownsParent: false, remote: true },
  folder: "volume-drivers/encrypted",
  program,
  // What is copied stays encrypted, under the same key.
  content: (pools) => new FolderContent({ ...pools, data: cipherName, sizeOf: () => undefined }),
  keptElsewhere: (options) => parseOptions(options).device !== undefined,
  fixedOptions: ["device"],
  requirements: [
    { kind: "program", name: "gocryptfs", advice: "install the package gocryptfs" },
    { kind: "program", name: "fusermount", advice: "install the package fuse3" },
    { kind: "filesystem", name: "fuse", advice: "load the module fuse" },
  ],
};

/** Opens the driver over `<root>/volume-drivers/encrypted`. */
export function openEncryptedDriver(options: DirectoryOptions): Promise<VolumeDriver> {
  return openDirectoryDriver(encrypted, options);
}

function cipherOf({ spec, folder }: MountContext): string {
  return parseOptions(spec.options).device ?? join(folder, cipherName);
}

/** gocryptfs takes one line. */
async function keyOf({ secret }: MountContext): Promise<string> {
  const key = await secret("key");
  if (!/[\r\n]/.test(key)) return `${key}\n`;
  throw new EngineError("invalid_argument", "the file that the option key refers to must hold one line");
}

async function prepare(context: MountContext): Promise<void> {
  const cipher = cipherOf(context);
  const { device } = parseOptions(context.spec.options);
  const key = await keyOf(context);
  if (device === undefined) await mkdir(cipher, { mode: 0o700 });
  else if ((await lookAtDevice(device)) === "encrypted") return;
  const { code, stderr } = await runProgram("gocryptfs", ["-init", "-q", "--", cipher], {
    deadline: initDeadline,
    input: key,
  });
  if (code === 0) return;
  throw explain(stderr) ?? new EngineError("internal", `gocryptfs could not begin a volume: ${stderr.trim()}`);
}

function explain(said: string): EngineError | undefined {
  if (said.includes("Password incorrect"))
    return new EngineError("forbidden", "the key is wrong: the volume was made with another one");
  return undefined;
}
