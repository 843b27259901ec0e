/** `attach`: at once to what runs, and to what does not run yet as soon as it starts. */
import { EngineError } from "../base/errors.ts";
import type { Attachment } from "../runtime/runtime.ts";
import { type Context, emit } from "./context.ts";
import type { Entry } from "./entry.ts";
import { LateAttachment, type Streams } from "./late-attachment.ts";

export async function attachContainer(context: Context, entry: Entry, streams: Streams): Promise<Attachment> {
  if (entry.run?.paused === true)
    throw new EngineError("conflict", `Container ${entry.id} is paused, unpause the container before attach.`);
  if (entry.phase.kind === "restarting")
    throw new EngineError("conflict", `Container ${entry.id} is restarting, wait until the container is running`);
  const client = new LateAttachment({ ...streams, stdin: streams.stdin && entry.record.config.OpenStdin === true });
  if (entry.run === undefined) {
    entry.attaching.add(client);
    client.onLeave(() => entry.attaching.delete(client));
  } else await client.connect(() => context.runtime.attach(entry.id));
  emit(context, entry, "attach");
  return client;
}
