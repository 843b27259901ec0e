/**
 * A session: a client's connection joined to the stdio of a process. Output goes out framed (or raw on a terminal), the
 * connection's bytes go in; the client's half-close is the end of stdin, never of the output to come. The process never ends because a client
 * left, stopped reading or typed the detach keys.
 */
import type { Duplex, Writable } from "node:stream";
import type { Attachment, OutputChunk } from "../../runtime/runtime.ts";
import { DetachWatcher } from "./detach-keys.ts";
import { frame } from "./stdcopy.ts";

export type Session = {
  /** Undefined: only what `before` gives. */
  readonly attachment: Attachment | undefined;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** The client's half-close ends the process' stdin (`StdinOnce`); otherwise, and on a terminal, it ends the session. */
  readonly endsStdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Sent first: the log so far, or why a process did not start. */
  readonly before: AsyncIterable<OutputChunk> | undefined;
  /** Looked for on a terminal's stdin. */
  readonly detachKeys: Uint8Array;
};

/** Milliseconds that a finished session waits for the client to close its side. */
const linger = 2000;

/** Resolves when the client is gone, or leaves by the detach keys. */
type Leaving = { readonly promise: Promise<"left">; readonly leave: () => void };

function leavingOf(connection: Writable): Leaving {
  const { promise, resolve } = Promise.withResolvers<"left">();
  const leave = (): void => resolve("left");
  if (connection.destroyed) leave();
  connection.once("close", leave);
  connection.once("error", leave);
  return { promise, leave };
}

/** Writes with back-pressure; false when the client left meanwhile. */
async function send(connection: Writable, data: Uint8Array, leaving: Leaving): Promise<boolean> {
  if (connection.destroyed) return false;
  if (connection.write(data)) return true;
  const { promise, resolve } = Promise.withResolvers<"drained">();
  connection.once("drain", () => resolve("drained"));
  return (await Promise.race([promise, leaving.promise])) === "drained";
}

async function sendAll(
  connection: Writable,
  output: AsyncIterable<OutputChunk>,
  session: Session,
  leaving: Leaving,
): Promise<void> {
  const iterator = output[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), leaving.promise]);
      if (next === "left" || next.done) return;
      const { stream, data } = next.value;
      if (!session[stream] || data.length === 0) continue;
      if (!(await send(connection, session.tty ? data : frame(stream, data), leaving))) return;
    }
  } finally {
    // not awaited: a source that waits for a silent process would hold the session open
    iterator.return?.().catch(() => undefined);
  }
}

/** Passes the client's bytes to the process, one write at a time, until it half-closes. */
function pumpInput(connection: Duplex, session: Session, leaving: Leaving): void {
  const { attachment } = session;
  const watcher = session.tty ? new DetachWatcher(session.detachKeys) : undefined;
  if (attachment === undefined || !session.stdin) {
    connection.resume();
    return;
  }
  let writing: Promise<void> = Promise.resolve();
  connection.on("data", (data: Uint8Array) => {
    const { pass, detached } = watcher?.push(data) ?? { pass: data, detached: false };
    connection.pause();
    writing = writing
      .then(() => (pass.length > 0 ? attachment.write(pass) : undefined))
      .then(() => (detached ? leaving.leave() : undefined))
      // a process that has closed its stdin still has output to give: the rest of the input is read and dropped
      .catch(() => undefined)
      .finally(() => connection.resume());
  });
  const endStdin = (): Promise<void> | void =>
    session.endsStdin && !session.tty ? attachment.closeStdin() : leaving.leave();
  const onEnd = (): void => {
    writing = writing.then(endStdin).catch(() => undefined);
  };
  connection.on("end", onEnd);
  leaving.promise.then(() => connection.off("end", onEnd));
}

/** Runs a session on an upgraded connection until the process ends or the client leaves. */
export async function runSession(connection: Duplex, session: Session): Promise<void> {
  const leaving = leavingOf(connection);
  try {
    await using _attachment = session.attachment;
    pumpInput(connection, session, leaving);
    await sendOutput(connection, session, leaving);
  } finally {
    closeGently(connection);
  }
}

/** Sends only a session's output, for a client that did not ask for an upgrade. */
export async function runOutput(connection: Writable, session: Session): Promise<void> {
  const leaving = leavingOf(connection);
  await using _attachment = session.attachment;
  await sendOutput(connection, session, leaving);
}

async function sendOutput(connection: Writable, session: Session, leaving: Leaving): Promise<void> {
  if (session.before !== undefined) await sendAll(connection, session.before, session, leaving);
  if (session.attachment !== undefined) await sendAll(connection, session.attachment.output, session, leaving);
}

/** Ends our side and reads on for a moment, so that a close with unread input does not cost the client its output. */
function closeGently(connection: Duplex): void {
  if (connection.destroyed) return;
  connection.removeAllListeners("data");
  connection.end();
  connection.resume();
  const timer = setTimeout(() => connection.destroy(), linger);
  timer.unref();
  connection.once("end", () => connection.writableFinished && connection.destroy());
  connection.once("finish", () => connection.readableEnded && connection.destroy());
  connection.once("close", () => clearTimeout(timer));
}
