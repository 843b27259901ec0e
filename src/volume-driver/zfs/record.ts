/**
 * Which datasets a volume has, on record in its folder before any of them is made:
 *
 *     <folder>/datasets.json    { "id", "head", "elders", "making"?, "changing"? }
 *
 * The *head* holds the data. An *elder* was the head until the volume became an earlier snapshot again, and holds the
 * snapshots of that time; the oldest comes first. Each has the property `strata:volume`, the id: no other dataset is ever
 * destroyed, whatever its name.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";
import { writeFileDurably } from "../../host/durable.ts";

export type DatasetRecord = {
  readonly id: string;
  readonly head: string;
  readonly elders: readonly string[];
  /** Being made; a crash may have left it. */
  readonly making?: string;
  /** Hidden snapshots and elders are made and given up; a crash may have left some that nobody needs. */
  readonly changing?: boolean;
};

const fileName = "datasets.json";

export async function writeRecord(folder: string, record: DatasetRecord): Promise<void> {
  await writeFileDurably(join(folder, fileName), JSON.stringify(record));
}

/** Undefined where nothing was made yet. */
export async function findRecord(folder: string): Promise<DatasetRecord | undefined> {
  let text: string;
  try {
    text = await readFile(join(folder, fileName), "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
  return decode(JSON.parse(text));
}

export async function readRecord(folder: string): Promise<DatasetRecord> {
  const record = await findRecord(folder);
  if (record !== undefined) return record;
  throw new EngineError("not_found", `${join(folder, fileName)}, which names the volume's dataset, is gone`);
}

export const datasetsOf = ({ elders, head }: DatasetRecord): readonly string[] => [...elders, head];

function decode(value: unknown): DatasetRecord {
  const fields = new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
  const [id, head, elders, making, changing] = ["id", "head", "elders", "making", "changing"].map((name) =>
    fields.get(name),
  );
  if (typeof id !== "string" || typeof head !== "string" || !Array.isArray(elders))
    throw new EngineError("internal", `${fileName} of a volume is damaged: it does not name a dataset`);
  return {
    ...{ id, head, elders: elders.filter((name) => typeof name === "string") },
    ...(typeof making === "string" ? { making } : {}),
    ...(changing === true ? { changing } : {}),
  };
}
