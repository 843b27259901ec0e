/**
 * Writables whose mounts do not sync (overlayfs' `volatile`, the option overlay2.volatile). What a container writes then
 * reaches the disk when the kernel likes, fsync(2) or not; after the machine went down its files may be torn in any way.
 *
 *   <home>/<id>/unsynced   the boot ID of the machine while the writable is used so; gone when all of it was synced
 *
 * The mark is durable before the writable is mounted, and goes after a sync when nobody uses it any more. So a mark of
 * another boot says that changes may be torn: they are not shown until somebody deletes the mark. A mark of this boot
 * is harmless, whoever was killed: the page cache is still there. The kernel leaves a mark of its own in the work
 * folder and refuses to mount; that one says nothing more, and is taken away.
 */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";
import { syncDirectory, syncFilesystem, writeFileDurably } from "../../host/durable.ts";

const markOf = (folder: string): string => join(folder, "unsynced");

let boot: Promise<string> | undefined;

function bootId(): Promise<string> {
  boot ??= readFile("/proc/sys/kernel/random/boot_id", "utf8").then((text) => text.trim());
  return boot;
}

type State = "synced" | "unsynced" | "torn";

async function stateOf(folder: string): Promise<State> {
  try {
    const text = await readFile(markOf(folder), "utf8");
    return text.trim() === (await bootId()) ? "unsynced" : "torn";
  } catch (error) {
    if (systemCode(error) === "ENOENT") return "synced";
    throw error;
  }
}

/** Before the writable in `folder`, which stands in `home`, is used: its next mount may go without syncing where `allowed`. Durable. */
export async function prepareUse(home: string, folder: string, allowed: boolean): Promise<void> {
  const state = await stateOf(folder);
  if (state === "torn") return;
  if (allowed && state === "synced") {
    await writeFileDurably(markOf(folder), `${await bootId()}\n`);
    await syncDirectory(home);
  }
  if (!allowed && state === "unsynced") await endUnsynced(home, folder);
  await rm(join(folder, "work", "work", "incompat"), { recursive: true, force: true });
}

/** Whether the writable in `folder` is mounted without syncing. Throws data_loss where its changes may be torn. */
export async function isUnsynced(folder: string): Promise<boolean> {
  const state = await stateOf(folder);
  if (state === "synced") return false;
  if (state === "torn")
    throw new EngineError(
      "data_loss",
      `the machine went down while the changes in ${folder} were not synced (overlay2.volatile), so they may be torn: remove the container, or delete ${markOf(folder)} to take them as they are`,
    );
  return true;
}

/** Nobody uses the writable in `folder`: its changes are made durable. Those that may be torn stay so. */
export async function endUnsynced(home: string, folder: string): Promise<void> {
  if ((await stateOf(folder)) !== "unsynced") return;
  await syncFilesystem(home);
  await rm(markOf(folder), { force: true });
  await syncDirectory(folder);
}
