/** `docker export`: the container's own filesystem as one plain tar, without its volumes, as Docker does. */
import { randomBytes } from "node:crypto";
import { archiveTasks } from "../archive/task-url.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";

export async function* exportContainer(
  context: Context,
  entry: Entry,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const holder = `export-${randomBytes(8).toString("hex")}`;
  const root = await context.layers.mountWritable(entry.id, holder);
  try {
    const options = signal === undefined ? {} : { signal };
    const task = context.pool.stream(archiveTasks, "packTreeTask", { root, path: "/", rebaseName: "" }, options);
    yield* task.output;
    await task.result;
  } finally {
    await context.layers.unmountWritable(entry.id, holder);
  }
  emit(context, entry, "export");
}
