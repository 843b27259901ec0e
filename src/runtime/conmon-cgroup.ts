/**
 * conmon in a cgroup of its own, `/strata-conmon/<id>`, in the hierarchies by which service managers end what belongs to
 * a service (`name=systemd` and the unified one): stopping the daemon's service then leaves containers alone. Where a
 * cgroup cannot be made, conmon stays with the daemon.
 */
import { mkdir, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import type { CgroupMounts } from "./cgroup.ts";

const parent = "strata-conmon";

const directories = (mounts: CgroupMounts, id: string): string[] =>
  [mounts.unified, mounts.controllers.get("name=systemd")]
    .filter((mount) => mount !== undefined)
    .map((mount) => join(mount, parent, id));

/** Moves a process. Never fails: a host without delegation works too. */
export async function enterConmonCgroup(mounts: CgroupMounts, id: string, pid: number): Promise<void> {
  const moves = directories(mounts, id).map(async (directory) => {
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "cgroup.procs"), `${pid}`);
  });
  // Read-only or delegated elsewhere: conmon stays where it was started.
  await Promise.allSettled(moves);
}

/** Takes the cgroups away once conmon has ended; a zombie that init has not reaped yet is given a moment. */
export async function removeConmonCgroup(mounts: CgroupMounts, id: string): Promise<void> {
  for (const directory of directories(mounts, id)) {
    for (let pause = 1; pause <= 512; pause *= 2) {
      const busy = await rmdir(directory).then(
        () => false,
        (error: unknown) => systemCode(error) === "EBUSY",
      );
      if (!busy) break;
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}
