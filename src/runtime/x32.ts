/**
 * Whether this kernel can run x32 programs at all. Distributions leave that ABI out or off, and a seccomp filter that
 * covers it costs every container's start 15 ms (libseccomp 2.5, 400 rules), so filters leave it out where it cannot
 * matter: what is not covered is refused. When in doubt the answer is yes.
 */
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";

let known: Promise<boolean> | undefined;

export function kernelRunsX32(): Promise<boolean> {
  known ??= ask();
  return known;
}

async function ask(): Promise<boolean> {
  const [config, commandLine] = await Promise.all([kernelConfig(), readFile("/proc/cmdline", "utf8").catch(() => "")]);
  return config === undefined || x32Enabled(config, commandLine);
}

/** By the kernel's build configuration and command line; Debian's kernels build it in and leave it off. */
export function x32Enabled(config: string, commandLine: string): boolean {
  if (!/^CONFIG_X86_X32(_ABI)?=y$/m.test(config)) return false;
  const offByDefault = /^CONFIG_X86_X32_DISABLED=y$/m.test(config);
  return !offByDefault || /\bsyscall\.x32=(y|1)/i.test(commandLine);
}

async function kernelConfig(): Promise<string | undefined> {
  const packed = await readFile("/proc/config.gz").catch(() => undefined);
  if (packed !== undefined) return (await promisify(gunzip)(packed)).toString();
  return readFile(`/boot/config-${release()}`, "utf8").catch(() => undefined);
}
