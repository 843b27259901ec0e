/**
 * Carries out what the findings say can be mended, in their order; one that fails is told and the others go on. A
 * record goes after its data, so that an interrupted repair is found again.
 */
import { rmdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { errorMessage } from "../base/errors.ts";
import { syncFilesystem } from "../host/durable.ts";
import { unmountAll } from "../host/mount.ts";
import { removeTreeAt } from "../host/remove-tree.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "../host/sys.ts";
import type { Database } from "../metadata/database.ts";
import type { CheckReport, Finding, Mend } from "./problem.ts";

export type RepairOptions = { readonly database: Database; readonly force: boolean };

/** The problems, each with whether it was repaired. */
export async function repair(
  findings: readonly Finding[],
  { database, force }: RepairOptions,
): Promise<CheckReport["problems"]> {
  const told: CheckReport["problems"][number][] = [];
  for (const { mend, ...problem } of findings) {
    if (mend === undefined || (mend.force === true && !force)) {
      told.push({ ...problem, repaired: false });
      continue;
    }
    try {
      await carryOut(mend, database);
      told.push({ ...problem, repaired: true });
    } catch (error) {
      told.push({ ...problem, repaired: false, failure: errorMessage(error) });
    }
  }
  return told;
}

/** Nothing behind a mount goes: it is somebody else's. */
function removeTree(path: string): void {
  const parent = openat2(AT_FDCWD, dirname(path), { flags: O.RDONLY | O.DIRECTORY });
  try {
    removeTreeAt(parent, basename(path));
  } finally {
    closeFd(parent);
  }
}

async function carryOut(mend: Mend, database: Database): Promise<void> {
  const { unmount, remove, discard, sweep, createWritable } = mend;
  if (unmount !== undefined) {
    unmountAll(unmount);
    // Only an empty directory goes: what is still mounted is nobody's to delete.
    await rmdir(unmount);
  }
  if (remove !== undefined) removeTree(remove);
  await discard?.driver.remove(discard.id);
  await sweep?.sweep();
  if (createWritable !== undefined) {
    const { driver, layer, options } = createWritable;
    await driver.remove(layer.id);
    await driver.createWritable(layer, options);
    await syncFilesystem(driver.home);
  }
  await mend.run?.();
  if (mend.statements !== undefined) await database.transact(mend.statements);
}
