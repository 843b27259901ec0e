/**
 * Copies one tree into another in a worker, in as many passes as the caller asks for: a line of JSON in for each pass, lines of
 * JSON out with how far it is and what each pass did. Between passes it remembers what is settled (archive/mirror-tree.ts).
 */
import { statfsSync } from "node:fs";
import { setImmediate as rest } from "node:timers/promises";
import { Mirror, type PassKind, type PassResult } from "../archive/mirror-tree.ts";
import { EngineError } from "../base/errors.ts";
import { syncFilesystem } from "../host/durable.ts";
import type { TaskContext } from "../host/pool.ts";
import { emptyDirectory } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2, readDirectory, statat } from "../host/sys.ts";
import { linesOf } from "./lines.ts";

/** Host paths of directories. */
export type MirrorArgument = {
  readonly source: string;
  readonly target: string;
  /** The target must have nothing in it, and is emptied again when the copy fails. */
  readonly fresh?: boolean;
};
export type MirrorCommand = { readonly kind: PassKind; readonly thorough?: boolean };
export type MirrorMessage =
  | { readonly passed: { readonly entries: number; readonly bytes: number } }
  | { readonly done: PassResult };

/** ext2 to 4, xfs, btrfs, zfs: what is written through a mapping after a sync moves the file's ctime. */
const honest: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x2fc12fc1]);
/** Milliseconds between two rests, and between two messages. */
const stride = 25;
const tellEvery = 200;

export async function mirrorTask({ source, target, fresh }: MirrorArgument, context: TaskContext): Promise<void> {
  using from = opened(source);
  using to = opened(target);
  if (fresh !== true) return await passes({ source, from: from.fd, target, to: to.fd }, context);
  refuseUsed(from.fd, to.fd);
  try {
    await passes({ source, from: from.fd, target, to: to.fd }, context);
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

type Trees = { readonly source: string; readonly from: number; readonly target: string; readonly to: number };

async function passes({ source, from, target, to }: Trees, context: TaskContext): Promise<void> {
  const trusted = honest.has(Number(statfsSync(source).type));
  const mirror = new Mirror(from, to, context.signal);
  for await (const line of linesOf(context.input)) {
    const command = JSON.parse(line) as MirrorCommand;
    const syncedAt = Date.now();
    if (trusted) await syncFilesystem(source);
    const result = await run(mirror, { ...command, syncedAt: trusted ? syncedAt : undefined }, context);
    if (command.kind !== "compare") await syncFilesystem(target);
    await tell(context, { done: result });
  }
}

async function run(mirror: Mirror, pass: Parameters<Mirror["pass"]>[0], context: TaskContext): Promise<PassResult> {
  const passed = { entries: 0, bytes: 0 };
  let [rested, told] = [performance.now(), 0];
  const steps = mirror.pass(pass);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    passed.entries += step.value.entries;
    passed.bytes += step.value.bytes;
    const now = performance.now();
    if (now - rested < stride) continue;
    if (now - told >= tellEvery) {
      await tell(context, { passed });
      told = now;
    }
    // A message, be it an abort, comes only now.
    await rest();
    context.signal.throwIfAborted();
    rested = performance.now();
  }
}

const tell = (context: TaskContext, message: MirrorMessage): Promise<void> =>
  context.write(Buffer.from(`${JSON.stringify(message)}\n`));

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openat2(AT_FDCWD, path, { flags: O.RDONLY | O.DIRECTORY });
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}
