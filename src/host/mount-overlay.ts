/**
 * Mounting overlayfs. Linux 6.8 takes lower directories one by one (`lowerdir+`), so their number and the length of
 * their paths do not matter. Older kernels read one string of at most a page, where a path that is long or hard to
 * quote is replaced by the kernel's short link to a descriptor of it.
 */
import { readlinkSync } from "node:fs";
import { resolve } from "node:path";
import { EngineError, systemCode } from "../base/errors.ts";
import type { MountStep } from "../base/mount.ts";
import { FilesystemContext, longestConfigString, MS, mount, orDetach } from "./mount-calls.ts";
import { parseMountOptions } from "./mount-options.ts";
import { AT_FDCWD, closeRead, O, openat2 } from "./sys.ts";

export type OverlayStep = Extract<MountStep, { kind: "overlay" }>;

/** mount(2) reads at most a page, and a NUL ends it. */
const longestData = 4095;

/** Short names of directories, good for as long as this is not disposed. */
class ShortLinks implements Disposable {
  readonly #fds: number[] = [];
  readonly #folder: string;

  constructor() {
    this.#folder = isLinkTo("/dev/fd", "/proc/self/fd") ? "/dev/fd" : "/proc/self/fd";
  }

  of(path: string): string {
    const fd = openat2(AT_FDCWD, path, { flags: O.PATH | O.DIRECTORY });
    this.#fds.push(fd);
    return `${this.#folder}/${fd}`;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeRead(fd);
  }
}

function isLinkTo(path: string, target: string): boolean {
  try {
    return readlinkSync(path) === target;
  } catch {
    return false;
  }
}

/** False where the kernel does not know `lowerdir+`, or not the calls; then nothing was mounted. */
export function mountOverlay(step: OverlayStep, target: string): boolean {
  using links = new ShortLinks();
  const { data, attributes } = parseMountOptions(step.options ?? []);
  // Kernels differ in which parameters they unquote, so what would need quotes goes by its link.
  const plain = (path: string): string =>
    Buffer.byteLength(path) > longestConfigString || /[\\:,]/.test(path) ? links.of(path) : path;
  using context = openContext(step, plain);
  if (context === undefined) return false;
  if (step.upper !== undefined) context.setDirectory("upperdir", resolve(target, step.upper), plain);
  if (step.work !== undefined) context.setDirectory("workdir", resolve(target, step.work), plain);
  for (const option of data) context.setOption(option);
  context.create();
  using made = context.mount(attributes);
  made.attach(target);
  // Attaching below a shared mount shares the new one.
  orDetach(target, () => made.setAttributes(0, false));
  return true;
}

let takesEverything: boolean | undefined;

/** Before 6.5 overlayfs reads its parameters only when the mount is made, as one string; until then it takes any. */
function isLate(): boolean {
  if (takesEverything !== undefined) return takesEverything;
  using context = new FilesystemContext("overlay");
  try {
    context.setFlag("no-such-parameter");
    takesEverything = true;
  } catch (error) {
    if (systemCode(error) !== "EINVAL") throw error;
    takesEverything = false;
  }
  return takesEverything;
}

function openContext(step: OverlayStep, plain: (path: string) => string): FilesystemContext | undefined {
  let context: FilesystemContext;
  try {
    if (isLate()) return undefined;
    context = new FilesystemContext("overlay");
  } catch (error) {
    if (systemCode(error) === "ENOSYS" || systemCode(error) === "EPERM") return undefined;
    throw error;
  }
  let added = 0;
  try {
    for (const lower of step.lower) {
      context.setDirectory("lowerdir+", lower, plain);
      added++;
    }
    return context;
  } catch (error) {
    context[Symbol.dispose]();
    if (added === 0 && systemCode(error) === "EINVAL") return undefined;
    throw error;
  }
}

/** Whether lower directories can be told one by one. Loads overlayfs where it is a module, so that its parameters can be read. */
export function overlayAppends(): boolean {
  try {
    using context = openContext({ kind: "overlay", lower: ["/"] }, (path) => path);
    return context !== undefined;
  } catch {
    return false;
  }
}

const quote = (path: string): string => path.replace(/[\\:,]/g, "\\$&");

type Naming = { readonly target: string; readonly name: (path: string) => string };

function dataOf(step: OverlayStep, options: readonly string[], { target, name }: Naming): string {
  const parts = [`lowerdir=${step.lower.map(name).join(":")}`];
  if (step.upper !== undefined) parts.push(`upperdir=${name(resolve(target, step.upper))}`);
  if (step.work !== undefined) parts.push(`workdir=${name(resolve(target, step.work))}`);
  return [...parts, ...options].join(",");
}

/** By mount(2), for kernels before 6.8. */
export function mountOverlayClassic(step: OverlayStep, target: string): void {
  using links = new ShortLinks();
  const { data: options, flags } = parseMountOptions(step.options ?? []);
  let data = dataOf(step, options, { target, name: quote });
  if (Buffer.byteLength(data) > longestData) data = dataOf(step, options, { target, name: (path) => links.of(path) });
  if (Buffer.byteLength(data) > longestData)
    throw new EngineError(
      "unsupported",
      `this kernel cannot mount an overlay of ${step.lower.length} layers; Linux 6.8 or later can`,
    );
  mount({ source: "overlay", target, type: "overlay", flags, data });
  orDetach(target, () => mount({ target, flags: MS.PRIVATE }));
}
