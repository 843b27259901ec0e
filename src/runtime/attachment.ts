/**
 * A client's hold on the stdio of a container or an exec, over conmon's attach socket. conmon sends messages of one byte
 * for the stream and then data; what it gets goes to stdin, and the end of what it gets closes stdin.
 *
 * conmon waits for its readers: with a full socket it stops reading the container's pipes, as dockerd does. So a reader
 * may be slower than the container, but one that takes nothing at all for a while is cut off, and the container goes on.
 */
import { EngineError } from "../base/errors.ts";
import { connectSeqpacket, type SeqpacketConnection } from "../host/seqpacket.ts";
import { preparePoller } from "../host/seqpacket-poller.ts";
import type { Attachment, OutputChunk } from "./runtime.ts";

/** conmon's names of the pipes (STDOUT_PIPE, STDERR_PIPE). */
const streams: ReadonlyMap<number, OutputChunk["stream"]> = new Map([
  [2, "stdout"],
  [3, "stderr"],
]);

const maxQueued = 1024 * 1024;

/**
 * Call it when an attach is to be expected: what reads attached sockets takes 40 ms to start after a minute of rest, and
 * may do so while the container is being made.
 */
export const prepareAttachments: () => void = preparePoller;

/** Connects; throws not_found when conmon is gone. Output from now on is delivered. */
export async function openAttachment(path: string, stallMs: number): Promise<Attachment> {
  const connection = await connectSeqpacket(path, { maxQueued, stallMs }).catch((cause: unknown) => {
    throw new EngineError("not_found", "the process has ended: nothing to attach to", { cause });
  });
  return {
    output: outputOf(connection),
    write: (data) => connection.write(data),
    closeStdin: () => connection.shutdownWrite(),
    [Symbol.asyncDispose]: () => connection.close(),
  };
}

async function* outputOf(connection: SeqpacketConnection): AsyncGenerator<OutputChunk> {
  for await (const message of connection.messages) {
    const stream = streams.get(message[0] ?? 0);
    if (stream !== undefined) yield { stream, data: message.subarray(1) };
  }
}
