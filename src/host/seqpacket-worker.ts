/**
 * The thread that waits for all seqpacket sockets (see seqpacket-poller.ts). It sleeps in epoll_wait, so it has no
 * event loop: an eventfd wakes it when there are commands, which it then takes from its port one after the other.
 */
import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EngineError, systemCode } from "../base/errors.ts";
import { clearEvent, EPOLL, Epoll, receiveMessage } from "./seqpacket-calls.ts";
import type { FromPoller, PollerData, ToPoller } from "./seqpacket-poller.ts";
import { closeFd } from "./sys.ts";
import { toPlainError } from "./worker-protocol.ts";

const { port, eventFd } = workerData as PollerData & { readonly port: MessagePort };

type Socket = {
  readonly id: number;
  readonly fd: number;
  readonly limit: number;
  /** Sent to the main thread and not yet seen there. */
  unseen: number;
  ended: boolean;
  wantsWritable: boolean;
  /** What epoll was told. */
  interest: number;
};

const eventId = 0;
/** The main thread may be busy for a while; beyond this the socket itself has to hold what comes. */
const mostUnseen = 16 * 1024 * 1024;
/** So that one loud socket does not keep the others waiting. */
const messagesAtOnce = 32;
/** A socket's default buffer limits a message to 208 KiB. */
const buffer = Buffer.alloc(256 * 1024);
/** The thread also looks up from time to time, for the case that the process ends without a word. */
const wakeMs = 1000;

const sockets = new Map<number, Socket>();
const epoll = new Epoll();
const post = (message: FromPoller): void => port.postMessage(message);

function updateInterest(socket: Socket): void {
  const reading = !socket.ended && socket.unseen < socket.limit;
  const wanted = (reading ? EPOLL.IN | EPOLL.RDHUP : 0) | (socket.wantsWritable ? EPOLL.OUT : 0);
  if (wanted === socket.interest) return;
  // Without any interest epoll would still report a hang-up, again and again.
  if (wanted === 0) epoll.remove(socket.fd);
  else if (socket.interest === 0) epoll.add(socket.fd, { id: socket.id, events: wanted });
  else epoll.change(socket.fd, { id: socket.id, events: wanted });
  socket.interest = wanted;
}

/** Takes what is there; true at the end of the stream. */
function receiveSome(socket: Socket, events: number, messages: Uint8Array<ArrayBuffer>[]): boolean {
  for (let index = 0; index < messagesAtOnce; index++) {
    const length = receiveMessage(socket.fd, buffer);
    if (length === undefined) return false;
    // A message without bytes looks like the end, except that the other end is still there.
    if (length === 0 && (events & (EPOLL.RDHUP | EPOLL.HUP)) !== 0) return true;
    if (length > buffer.length) throw new EngineError("internal", `a message of ${length} bytes is too long`);
    if (length === 0) return false;
    messages.push(new Uint8Array(buffer.subarray(0, length)));
  }
  return false;
}

function read(socket: Socket, events: number): void {
  const messages: Uint8Array<ArrayBuffer>[] = [];
  let end: FromPoller | undefined;
  try {
    if (receiveSome(socket, events, messages)) end = { type: "end", id: socket.id };
  } catch (error) {
    // The other end left with messages of ours unread: what it sent is all there.
    const reset = systemCode(error) === "ECONNRESET";
    end = { type: "end", id: socket.id, ...(reset ? {} : { error: toPlainError(error) }) };
  }
  if (messages.length > 0) {
    socket.unseen += messages.reduce((sum, message) => sum + message.length, 0);
    port.postMessage(
      { type: "messages", id: socket.id, messages } satisfies FromPoller,
      messages.map((m) => m.buffer),
    );
  }
  if (end === undefined) return;
  socket.ended = true;
  post(end);
}

function ready(socket: Socket, events: number): void {
  if (!socket.ended && (events & ~EPOLL.OUT) !== 0) read(socket, events);
  if (socket.wantsWritable && (events & (EPOLL.OUT | EPOLL.ERR | EPOLL.HUP)) !== 0) {
    socket.wantsWritable = false;
    post({ type: "writable", id: socket.id });
  }
  updateInterest(socket);
}

/** False: stop. */
function obey(command: ToPoller): boolean {
  if (command.type === "stop") return false;
  if (command.type === "add") {
    const { id, fd, limit = mostUnseen } = command;
    sockets.set(id, { id, fd, limit, unseen: 0, ended: false, wantsWritable: false, interest: 0 });
  }
  const socket = sockets.get(command.id);
  if (socket === undefined) return true;
  if (command.type === "remove") {
    if (socket.interest !== 0) epoll.remove(socket.fd);
    sockets.delete(socket.id);
    closeFd(socket.fd);
    post({ type: "removed", id: socket.id });
    return true;
  }
  if (command.type === "seen") socket.unseen -= command.bytes;
  if (command.type === "await-writable") socket.wantsWritable = true;
  updateInterest(socket);
  return true;
}

function takeCommands(): boolean {
  clearEvent(eventFd);
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port))
    // Only the poller holds the other end.
    if (!obey(next.message as ToPoller)) return false;
  return true;
}

function run(): void {
  epoll.add(eventFd, { id: eventId, events: EPOLL.IN });
  for (;;) {
    let commands = false;
    for (const { id, events } of epoll.wait(wakeMs)) {
      const socket = sockets.get(id);
      if (id === eventId) commands = true;
      else if (socket !== undefined) ready(socket, events);
    }
    if (commands && !takeCommands()) return;
  }
}

try {
  run();
} finally {
  epoll[Symbol.dispose]();
  port.close();
}
