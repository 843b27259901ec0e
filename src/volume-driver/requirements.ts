/** What a driver cannot do without, looked for on this machine: programs in PATH, filesystems of the kernel. */
import { access, constants, readFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";
import type { Requirement, VolumeDriver } from "./driver.ts";

/** Where mount helpers are, also where PATH has no such folders. */
const adminFolders = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Those that are missing. */
export async function missingOf(requirements: readonly Requirement[]): Promise<readonly Requirement[]> {
  const here = await Promise.all(
    requirements.map(({ kind, name }) => (kind === "program" ? hasProgram(name) : hasFilesystem(name))),
  );
  return requirements.filter((_, index) => here[index] !== true);
}

/** What is missing and what to do, as a user reads it. */
export function sentenceOf(driver: string, missing: readonly Requirement[]): string {
  const words = missing.map(({ kind, name, advice }) =>
    kind === "program" ? `the program ${name} (${advice})` : `the filesystem ${name} in the kernel (${advice})`,
  );
  return `the volume driver ${driver} needs ${words.join(" and ")}`;
}

/** Throws unsupported when something is missing. */
export async function refuseMissing({
  name,
  requirements = [],
}: Pick<VolumeDriver, "name" | "requirements">): Promise<void> {
  const missing = await missingOf(requirements);
  if (missing.length > 0) throw new EngineError("unsupported", sentenceOf(name, missing));
}

async function hasProgram(name: string): Promise<boolean> {
  for (const folder of new Set([...(process.env.PATH ?? "").split(":"), ...adminFolders])) {
    if (folder === "") continue;
    if (await access(join(folder, name), constants.X_OK).then(...truth)) return true;
  }
  return false;
}

/** Known to the kernel, or a module that it loads when somebody mounts. */
async function hasFilesystem(name: string): Promise<boolean> {
  const known = await readFile("/proc/filesystems", "utf8");
  if (known.split("\n").some((line) => line.split("\t")[1] === name)) return true;
  const modules = await readFile(`/lib/modules/${release()}/modules.dep`, "utf8").catch(() => "");
  const file = `/${name.replaceAll("-", "_")}.ko`;
  return modules.split("\n").some((line) => line.split(":")[0]?.replaceAll("-", "_").includes(file) === true);
}

const truth = [() => true, () => false] as const;
