/** Volumes of the local driver: records against directories, both ways. Content is the user's and is not looked at. */
import { lstatSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { isMountPoint } from "../host/mount.ts";
import { namesIn } from "../host/names-in.ts";
import { insertStatement, listRecords, type VolumeRecord } from "../volume/records.ts";
import { deleteCopy, type KeptCopy, listCopies } from "../volume/verb-records.ts";
import type { CheckContext } from "./context.ts";

const safeName = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** Looks at every volume and every hold on one. */
export async function checkVolumes(context: CheckContext): Promise<void> {
  const { dataRoot, snapshot, checked } = context;
  const folder = join(dataRoot, "volumes");
  const records = listRecords(snapshot.database);
  checked.volumes = records.length;
  const local = records.filter(({ driver }) => driver === "local");
  const holds = snapshot.database.all("SELECT container, volume FROM volume_reference ORDER BY volume, container");
  const held = new Set(holds.map(({ volume }) => String(volume)));
  for (const record of local) checkVolume(context, { record, folder, held });
  const known = new Set(records.map(({ name }) => name));
  for (const name of await namesIn(folder))
    if (!name.startsWith(".") && !known.has(name)) reportUnknown(context, folder, name);
  checkHolds(context, holds, known);
  for (const copy of listCopies(snapshot.database)) if (copy.state === "ready") checkCopy(context, copy);
}

function checkCopy({ dataRoot, findings }: CheckContext, { id, volume, name }: KeptCopy): void {
  const folder = join(dataRoot, "volume-snapshots", id, "data");
  if (isDirectory(folder)) return;
  findings.push({
    kind: "volume-snapshot-missing",
    object: `snapshot ${name} of volume ${volume}`,
    detail: `${folder} is gone`,
    repair: "forgets the snapshot: what was in it is lost",
    mend: { statements: [deleteCopy(id)] },
  });
}

type Subject = { readonly record: VolumeRecord; readonly folder: string; readonly held: ReadonlySet<string> };

function checkVolume({ findings }: CheckContext, { record, folder, held }: Subject): void {
  const { name, state } = record;
  const object = `volume ${name}`;
  const forget = { sql: "DELETE FROM volume WHERE name = ?", parameters: [name] };
  if (state !== "ready") {
    const mend = safeName.test(name) ? { remove: join(folder, name), statements: [forget] } : { statements: [forget] };
    const repair = "removes it, as the next start of the daemon does";
    findings.push({ kind: "volume-half-made", object, detail: `its record says ${state}`, repair, mend });
    return;
  }
  if (isDirectory(join(folder, name, "_data"))) return;
  const finding = { kind: "volume-data-missing", object, detail: `${join(folder, name, "_data")} is gone` } as const;
  if (held.has(name))
    findings.push({
      ...finding,
      repair: `lost: bring ${join(folder, name, "_data")} back from a backup, or remove the containers that use it`,
    });
  else
    findings.push({ ...finding, repair: "forgets the volume: what was in it is lost", mend: { statements: [forget] } });
}

function reportUnknown({ findings }: CheckContext, folder: string, name: string): void {
  const path = join(folder, name, "_data");
  const found = findTime(path);
  const finding = {
    kind: "volume-unknown",
    object: `volume ${name}`,
    detail: `${join(folder, name)} is not recorded`,
  } as const;
  if (found === undefined || !safeName.test(name)) {
    findings.push({ ...finding, repair: "nothing: it has no _data, or no volume's name; look at it and remove it" });
    return;
  }
  const volume = {
    name,
    driver: "local",
    options: {},
    labels: {},
    anonymous: false,
    createdAt: found,
    mountpoint: path,
    scope: "local",
  } as const;
  findings.push({
    ...finding,
    repair: "records it, so that it is a volume again",
    mend: { statements: [insertStatement(volume, "ready")] },
  });
}

function checkHolds(
  { snapshot, findings }: CheckContext,
  holds: readonly Readonly<Record<string, unknown>>[],
  known: ReadonlySet<string>,
): void {
  const containers = new Set(snapshot.containers.map(({ id }) => String(id)));
  for (const hold of holds) {
    const [container, volume] = [String(hold.container), String(hold.volume)];
    const kind = "volume-reference-dangling";
    const object = `hold of container ${container} on volume ${volume}`;
    if (!containers.has(container))
      findings.push({
        kind,
        object,
        detail: "the container is not recorded",
        repair: "removes the hold",
        mend: {
          statements: [
            { sql: "DELETE FROM volume_reference WHERE container = ? AND volume = ?", parameters: [container, volume] },
          ],
        },
      });
    else if (!known.has(volume))
      findings.push({
        kind,
        object,
        detail: "the volume is not recorded",
        repair: "lost: make the volume again (docker volume create), or remove the container",
      });
  }
}

const isDirectory = (path: string): boolean => findTime(path) !== undefined;

/** When the directory was made, RFC 3339; undefined where none is. What is mounted on it may hang, and is not asked. */
function findTime(path: string): string | undefined {
  try {
    const stat = lstatSync(isMountPoint(path) ? dirname(path) : path);
    return stat.isDirectory() ? stat.birthtime.toISOString() : undefined;
  } catch (error) {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return undefined;
    throw error;
  }
}
