/** Makes an init layer again, under its own id, from the image below: it holds nothing else than the engine's own files. */
import { syncFilesystem } from "../host/durable.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";
import type { CheckContext } from "./context.ts";

const initTasks = new URL("../layer/init-task.ts", import.meta.url);

/** `ancestry`: the init layer's id, then what is below. */
export async function rebuildInit(
  { pool, mountView }: Pick<CheckContext, "pool" | "mountView">,
  driver: StorageDriver,
  [id = "", ...parents]: readonly string[],
): Promise<void> {
  await driver.remove(id);
  const stage = await driver.stage({ id, parents });
  {
    await using view = await mountView(stage.mounts);
    await pool.run<{ root: string }, void>(initTasks, "fillInitLayerTask", { root: view.path });
  }
  await driver.commit({ id, parents });
  await syncFilesystem(driver.home);
}
