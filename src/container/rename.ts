/** `rename`: the new name is held before it is written, the old one until it is durable. */
import { EngineError } from "../base/errors.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { parseContainerName } from "./names.ts";
import { recordStatement } from "./record.ts";

export function renameContainer(context: Context, entry: Entry, text: string): Promise<void> {
  if (text === "" || text === "/") throw new EngineError("invalid_argument", "Neither old nor new names may be empty");
  const name = parseContainerName(text);
  return entry.lock.run(async () => {
    const { name: before } = entry.record;
    if (name === before)
      throw new EngineError("invalid_argument", "Renaming a container with the same name as its current name");
    const { names } = context.entries;
    names.take(name, entry.id);
    try {
      const record = { ...entry.record, name };
      await context.database.transact([recordStatement(record)]);
      entry.record = record;
    } catch (error) {
      names.release(name, entry.id);
      throw error;
    }
    names.release(before, entry.id);
    emit(context, entry, "rename", { oldName: `/${before}` });
  });
}
