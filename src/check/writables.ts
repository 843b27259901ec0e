/** Containers' writable layers of one driver: their rows, their directories, what is below them, and recorded sizes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { errorMessage } from "../base/errors.ts";
import { decodeRow } from "../container/record.ts";
import { isMountPoint } from "../host/mount.ts";
import { changesSize } from "../layer/compare.ts";
import { DiffRecords } from "../layer/diff-records.ts";
import { Records } from "../layer/records.ts";
import { TemporaryMounts } from "../layer/temporary-mounts.ts";
import type { CheckContext, DriverState } from "./context.ts";
import type { Mend } from "./problem.ts";
import { ancestryOf, stackOf, type WritableRecord } from "./records.ts";

/** Looks at every writable layer of the driver. */
export async function checkWritables(context: CheckContext, state: DriverState): Promise<void> {
  const containers = new Set(context.snapshot.containers.map(({ id }) => String(id)));
  for (const row of context.snapshot.writables.filter(({ driver }) => driver === state.driver.name)) {
    if (row.state !== "ready") reportHalfMade(context, state, row);
    else if (!containers.has(row.id)) reportUnknown(context, state, row);
    else await checkWritable(context, state, row);
  }
}

const forget = ({ driver }: DriverState, { data }: WritableRecord): Mend => ({
  discard: { driver, id: data },
  statements: [{ sql: "DELETE FROM layer_writables WHERE data = ?", parameters: [data] }],
});

function reportHalfMade({ findings }: CheckContext, state: DriverState, row: WritableRecord): void {
  findings.push({
    kind: "layer-half-made",
    object: `layer of container ${row.id} (data ${row.data})`,
    detail: `its record says ${row.state}`,
    repair: "removes it with its data, as the next start of the daemon does",
    mend: forget(state, row),
  });
}

function reportUnknown({ findings }: CheckContext, state: DriverState, row: WritableRecord): void {
  findings.push({
    kind: "container-unknown",
    object: `layer of container ${row.id} (data ${row.data})`,
    detail: "no container of that id is recorded; what it wrote may still be there",
    repair: "with --force: removes the layer and what the container wrote",
    mend: { force: true, ...forget(state, row) },
  });
}

async function checkWritable(context: CheckContext, state: DriverState, row: WritableRecord): Promise<void> {
  const { snapshot, findings } = context;
  const parents = row.init === undefined ? undefined : ancestryOf(snapshot, row.init);
  const object = `container ${row.id}`;
  if (parents === undefined) {
    findings.push({
      kind: "container-layer-missing",
      object,
      detail: "the layers below its own are not recorded",
      repair: "lost: remove the container (docker rm) and make it again",
    });
    return;
  }
  if (!state.present.has(row.data)) return reportMissing(context, state, { row, parents });
  const needed = state.driver.traits.keeps === "diff" ? parents : parents.slice(0, 1);
  if (needed.every((id) => state.visible.has(id))) await checkSize(context, state, row);
}

type Missing = { readonly row: WritableRecord; readonly parents: readonly string[] };

function reportMissing(context: CheckContext, state: DriverState, { row, parents }: Missing): void {
  const { findings } = context;
  const finding = {
    kind: "container-data-missing",
    object: `container ${row.id}`,
    detail: `the directory of its layer (data ${row.data}) is gone, with what it wrote (${row.size ?? "unknown"} bytes recorded)`,
  } as const;
  const { driver } = state;
  if (driver.traits.keeps !== "diff" || parents.some((id) => !state.visible.has(id))) {
    findings.push({ ...finding, repair: "lost: remove the container (docker rm) and make it again" });
    return;
  }
  findings.push({
    ...finding,
    repair: "makes it again, empty: the container starts from its image; what it wrote is lost",
    mend: {
      createWritable: {
        driver,
        layer: { id: row.data, parents: stackOf(context.snapshot, row.init ?? "", 1) },
        options: optionsOf(context, row.id),
      },
      statements: [{ sql: "UPDATE layer_writables SET size = 0 WHERE data = ?", parameters: [row.data], changes: 1 }],
    },
  });
}

/** The `--storage-opt` that a container was made with; none where its record cannot be read, which is told elsewhere. */
function optionsOf({ snapshot }: CheckContext, container: string): Readonly<Record<string, string>> {
  const row = snapshot.containers.find(({ id }) => String(id) === container);
  try {
    return (row && decodeRow(row).record.hostConfig.StorageOpt) ?? {};
  } catch {
    return {};
  }
}

/** A figure that somebody could be changing at this moment, or that says it is not exact, is not compared. */
async function checkSize(context: CheckContext, { driver }: DriverState, row: WritableRecord): Promise<void> {
  const { dataRoot, execRoot, pool, snapshot, findings } = context;
  const folder = join(dataRoot, "layers");
  const mountFolder = join(execRoot, "layers");
  if (row.init === undefined || isMountPoint(join(mountFolder, row.id))) return;
  const records = new Records(snapshot.database, driver.name);
  const diffRecords = new DiffRecords(snapshot.database, driver.name);
  const parts = {
    folder,
    mountFolder,
    driver,
    pool,
    records,
    diffRecords,
    mounts: new TemporaryMounts(execRoot),
  };
  const { id, data, init, size } = row;
  let measured: number;
  try {
    measured = await changesSize(parts, { row: { id, data, init, size }, path: undefined });
  } catch (error) {
    findings.push({
      kind: "container-data-damaged",
      object: `container ${id}`,
      detail: `the data of its layer (${data}) cannot be read: ${errorMessage(error)}`,
      repair: "lost: remove the container (docker rm) and make it again",
    });
    return;
  }
  if (size === undefined || measured === size || existsSync(join(folder, "open", data))) return;
  findings.push({
    kind: "size-differs",
    object: `container ${id}`,
    detail: `recorded are ${size} bytes, it has ${measured}`,
    repair: "records what was measured",
    mend: {
      statements: [
        { sql: "UPDATE layer_writables SET size = ? WHERE data = ?", parameters: [measured, data], changes: 1 },
      ],
    },
  });
}
