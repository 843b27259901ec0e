/**
 * Copies one tree into another in a worker, in as many passes as the caller asks for: a line of JSON in for each pass, lines of
 * JSON out with how far it is and what each pass did. Between passes it remembers what is settled (mirror-tree.ts).
 */
import { statfsSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { syncFilesystem } from "../host/durable.ts";
import type { TaskContext } from "../host/pool.ts";
import { emptyDirectory } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2, readDirectory, statat } from "../host/sys.ts";
import { linesOf } from "./lines.ts";
import { Mirror, type PassKind, type PassResult } from "./mirror-tree.ts";
import { type PassedMessage, stepByStep, tellLine } from "./steps.ts";

/** Host paths of directories. */
export type MirrorArgument = {
  readonly source: string;
  readonly target: string;
  /** The target must have nothing in it, and is emptied again when the copy fails. */
  readonly fresh?: boolean;
};
export type MirrorCommand = { readonly kind: PassKind; readonly thorough?: boolean };
export type MirrorMessage = PassedMessage | { readonly done: PassResult };

/** ext2 to 4, xfs, btrfs, zfs: what is written through a mapping after a sync moves the file's ctime. */
const honest: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x2fc12fc1]);

export async function mirrorTask({ source, target, fresh }: MirrorArgument, context: TaskContext): Promise<void> {
  using from = opened(source);
  using to = opened(target);
  if (fresh !== true) return await mirrorPasses(from.fd, to.fd, context);
  refuseUsed(from.fd, to.fd);
  try {
    await mirrorPasses(from.fd, to.fd, context);
  } catch (error) {
    emptyDirectory(to.fd);
    throw error;
  }
}

/** Options of a volume may name storage that is there already. */
function refuseUsed(from: number, to: number): void {
  const [source, target] = [statat(from, ""), statat(to, "")];
  if (source.ino === target.ino && source.dev === target.dev)
    throw new EngineError("conflict", "both volumes have the same storage: give the new one options of its own");
  if (readDirectory(to).some((name) => name.toString("latin1") !== "lost+found"))
    throw new EngineError("conflict", "the new volume's storage is not empty: give it options of its own");
}

/** The passes that the task's input asks for, from one open directory into another. */
export async function mirrorPasses(from: number, to: number, context: TaskContext): Promise<void> {
  const [source, target] = [`/proc/self/fd/${from}`, `/proc/self/fd/${to}`];
  const trusted = honest.has(Number(statfsSync(source).type));
  const mirror = new Mirror(from, to, context.signal);
  for await (const line of linesOf(context.input)) {
    const command = JSON.parse(line) as MirrorCommand;
    const syncedAt = Date.now();
    if (trusted) await syncFilesystem(source);
    const done = await stepByStep(mirror.pass({ ...command, syncedAt: trusted ? syncedAt : undefined }), context);
    if (command.kind !== "compare") await syncFilesystem(target);
    await tellLine(context, { done } satisfies MirrorMessage);
  }
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
