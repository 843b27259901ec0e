/**
 * Mounts as values become mounts of the kernel, and go again. A sequence is mounted in order on one target, all of it
 * or none; what is mounted is private, so that it does not spread into other namespaces. Nothing here keeps state: what
 * is mounted is asked of the kernel (`/proc/self/mountinfo`).
 *
 * Synchronous and short, except below a dead network or FUSE filesystem, where any path lookup may wait: those belong
 * into a child process. Messages never carry options, which may hold passwords.
 */
import { readFileSync, realpathSync } from "node:fs";
import { EngineError, type ErrorCode, errorMessage, systemCode } from "../base/errors.ts";
import type { MountStep, Mounts } from "../base/mount.ts";
import { DetachedMount, detach, detachAsync, MOUNT_ATTR, MS, mount, orDetach } from "./mount-calls.ts";
import { type HelperStep, mountHelper } from "./mount-helper.ts";
import { type ImageStep, mountImage, mountImageAsync } from "./mount-image.ts";
import { flagsOfWords, parseMountOptions } from "./mount-options.ts";
import { mountOverlay, mountOverlayClassic, type OverlayStep } from "./mount-overlay.ts";

type BindStep = Extract<MountStep, { kind: "bind" }>;
type FilesystemStep = Extract<MountStep, { kind: "filesystem" }>;

/** Mounts every step on `target`, in order; when one fails, those before it are taken away again. Refuses steps that need a program. */
export function mountAll(steps: Mounts, target: string): void {
  let done = 0;
  try {
    for (const step of steps) {
      mountStep(step, target);
      done++;
    }
  } catch (error) {
    for (; done > 0; done--) detach(target);
    throw error;
  }
}

/** As `mountAll`, for any steps: the event loop does not wait for a program that mounts, nor for the disk of an image. */
export async function mountAllAsync(steps: Mounts, target: string): Promise<void> {
  let done = 0;
  try {
    for (const step of steps) {
      if (step.kind === "helper" || step.kind === "image") await mountSlowStep(step, target);
      else mountStep(step, target);
      done++;
    }
  } catch (error) {
    for (; done > 0; done--) await detachAsync(target);
    throw error;
  }
}

function mountStep(step: MountStep, target: string): void {
  try {
    if (step.kind === "bind") mountBind(step, target);
    else if (step.kind === "overlay") mountOverlayStep(step, target);
    else if (step.kind === "image") mountImage(step, target);
    else if (step.kind === "helper") throw new EngineError("internal", `${step.program} mounts only by mountAllAsync`);
    else mountFilesystem(step, target);
  } catch (error) {
    throw explained(error, step, target);
  }
}

async function mountSlowStep(step: HelperStep | ImageStep, target: string): Promise<void> {
  try {
    if (step.kind === "image") await mountImageAsync(step, target);
    else await mountHelper(step, target, mountsAt);
  } catch (error) {
    throw explained(error, step, target);
  }
}

function explained(error: unknown, step: MountStep, target: string): EngineError {
  if (error instanceof EngineError) return error;
  const words = `cannot mount ${describe(step)} on ${target}: ${errorMessage(error)}`;
  return new EngineError(codeOf(error), words, { cause: error });
}

const codes: Readonly<Record<string, ErrorCode>> = {
  ENODEV: "unsupported",
  ENOSYS: "unsupported",
  EPERM: "forbidden",
  EACCES: "forbidden",
  ENOSPC: "no_space",
  EDQUOT: "no_space",
};

const codeOf = (error: unknown): ErrorCode => codes[systemCode(error) ?? ""] ?? "internal";

function describe(step: MountStep): string {
  if (step.kind === "overlay") return `an overlay of ${step.lower.length} layers`;
  if (step.kind === "bind") return step.source;
  if (step.kind === "image") return `the ${step.type} filesystem in ${step.file}`;
  if (step.kind === "helper") return `a filesystem of ${step.program}`;
  // Some sources are addresses with a name and a password.
  return `${step.type} from ${step.source.replace(/\/\/[^/@]*@/, "//")}`;
}

function mountOverlayStep(step: OverlayStep, target: string): void {
  const [only, ...more] = step.lower;
  if (only === undefined) throw new EngineError("internal", `an overlay on ${target} needs a lower directory`);
  // overlayfs refuses a single directory that nothing is laid over: its view is the directory, read-only.
  if (more.length === 0 && step.upper === undefined) mountBind({ kind: "bind", source: only, readonly: true }, target);
  else if (!mountOverlay(step, target)) mountOverlayClassic(step, target);
}

function mountBind(step: BindStep, target: string): void {
  const recursive = step.recursive === true;
  try {
    using copy = DetachedMount.copyOf(step.source, recursive);
    const attributes = step.readonly ? MOUNT_ATTR.RDONLY : 0;
    copy.setAttributes(attributes, recursive);
    copy.attach(target);
    // Attaching below a shared mount shares the new one.
    orDetach(target, () => copy.setAttributes(attributes, recursive));
  } catch (error) {
    if (systemCode(error) !== "ENOSYS") throw error;
    mountBindClassic(step, target);
  }
}

/** By mount(2), for kernels before 5.12. A recursive bind is read-only at its top only. */
export function mountBindClassic(step: BindStep, target: string): void {
  const recursive = step.recursive === true ? MS.REC : 0;
  mount({ source: step.source, target, flags: MS.BIND | recursive });
  orDetach(target, () => {
    mount({ target, flags: MS.PRIVATE | recursive });
    if (!step.readonly) return;
    // A remount clears every flag that it does not name.
    const kept = flagsOfWords(mountTable().findLast((entry) => entry.target === target)?.options ?? []);
    mount({ target, flags: MS.REMOUNT | MS.BIND | MS.RDONLY | kept });
  });
}

function mountFilesystem(step: FilesystemStep, target: string): void {
  const { flags, data } = parseMountOptions(step.options);
  const remounts = (step.more ?? []).map((options) => joined(step, options));
  mount({ source: step.source, target, type: step.type, flags, data: joined(step, data) });
  orDetach(target, () => {
    mount({ target, flags: MS.PRIVATE });
    for (const more of remounts)
      mount({ source: step.source, target, type: step.type, flags: MS.REMOUNT | flags, data: more });
  });
}

function joined(step: FilesystemStep, options: readonly string[]): string {
  const text = options.join(",");
  if (Buffer.byteLength(text) <= 4095) return text;
  throw new EngineError("invalid_argument", `the options of ${describe(step)} are longer than the kernel reads (4095)`);
}

/** Takes every mount on `target` away, the topmost first, also those in use (they end with their last user). */
export function unmountAll(target: string): void {
  while (detach(target));
}

/** As `unmountAll`, for what was written to: the event loop does not wait for the disk. */
export async function unmountAllAsync(target: string): Promise<void> {
  while (await detachAsync(target));
}

/** Makes `directory` a private mount of itself, so that mounts below it never spread to other namespaces. Idempotent. */
export function makePrivate(directory: string): void {
  const target = realpathSync(directory);
  if (!isMountPoint(target)) mount({ source: target, target, flags: MS.BIND });
  mount({ target, flags: MS.PRIVATE });
}

export type MountEntry = {
  readonly id: number;
  readonly parent: number;
  /** `major:minor` of the filesystem. */
  readonly device: string;
  /** What of the filesystem is seen: `/`, or the directory of a bind. */
  readonly root: string;
  readonly target: string;
  readonly options: readonly string[];
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
  /** `private`, `shared`, `slave`, `shared,slave` or `unbindable`, as findmnt shows it. */
  readonly propagation: string;
};

/** What is mounted in this process' namespace, in the order of mounting (proc_pid_mountinfo(5)). */
export function mountTable(): readonly MountEntry[] {
  return parseMountInfo(readFileSync("/proc/self/mountinfo"));
}

/** The bytes of a mountinfo file; names are decoded (`\040` is a space). */
export function parseMountInfo(bytes: Uint8Array): MountEntry[] {
  const lines = Buffer.from(bytes).toString("latin1").split("\n");
  return lines.filter((line) => line !== "").map(parseLine);
}

const decode = (field: string | undefined): string => {
  const bytes = (field ?? "").replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, "latin1").toString();
};

function parseLine(line: string): MountEntry {
  const fields = line.split(" ");
  const separator = fields.indexOf("-", 6);
  const optional = fields.slice(6, separator);
  const words = ["shared", "slave", "unbindable"];
  const named: Readonly<Record<string, string>> = { shared: "shared", master: "slave", unbindable: "unbindable" };
  const found = new Set(optional.map((field) => named[field.split(":")[0] ?? ""]));
  return {
    id: Number(fields[0]),
    parent: Number(fields[1]),
    device: fields[2] ?? "",
    root: decode(fields[3]),
    target: decode(fields[4]),
    options: (fields[5] ?? "").split(","),
    type: decode(fields[separator + 1]),
    source: decode(fields[separator + 2]),
    superOptions: (fields[separator + 3] ?? "").split(",").map(decode),
    propagation: words.filter((word) => found.has(word)).join(",") || "private",
  };
}

/** Whether something is mounted at `path`, which is absolute and free of symlinks. Does not touch it. */
export function isMountPoint(path: string): boolean {
  return mountTable().some((entry) => entry.target === path);
}

/** The mount that `path` is in; it exists. */
export function fileMount(path: string): MountEntry | undefined {
  const real = `${realpathSync(path)}/`;
  const holds = ({ target }: MountEntry): boolean => real.startsWith(target.endsWith("/") ? target : `${target}/`);
  // The longest path; of several mounts on one path, the last one is seen.
  return mountTable()
    .filter(holds)
    .reduce<MountEntry | undefined>(
      (best, entry) => (entry.target.length < (best?.target.length ?? 0) ? best : entry),
      undefined,
    );
}

const mountsAt = (path: string): number => mountTable().filter((entry) => entry.target === path).length;
