/**
 * The system calls behind seqpacket.ts: Unix sockets of type SOCK_SEQPACKET, epoll and eventfd. Nothing here waits
 * but `epollWait`.
 */
import { check, lastErrno, native, systemError } from "./libc.ts";
import { AT_FDCWD, closeFd, O, openat2 } from "./sys.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_TRUNC = 0x20;
const SHUT_WR = 1;
const EINTR = 4;
const EAGAIN = 11;

export const EPOLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, RDHUP: 0x2000 } as const;

const calls = {
  socket: native("int socket(int, int, int)"),
  connect: native("int connect(int, const void *, uint32_t)"),
  send: native("long send(int, const void *, size_t, int)"),
  recv: native("long recv(int, void *, size_t, int)"),
  shutdown: native("int shutdown(int, int)"),
  eventfd: native("int eventfd(uint32_t, int)"),
  read: native("long read(int, void *, size_t)"),
  write: native("long write(int, const void *, size_t)"),
  epollCreate: native("int epoll_create1(int)"),
  epollCtl: native("int epoll_ctl(int, int, int, void *)"),
  epollWait: native("int epoll_wait(int, void *, int, int)"),
};

/** sockaddr_un: a family of two bytes and a path of at most 107 with its NUL. */
function socketAddress(path: Buffer): Buffer {
  const address = Buffer.alloc(2 + path.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  path.copy(address, 2);
  return address;
}

/** A connected, non-blocking socket. EAGAIN: the other end has more callers waiting than it takes. */
export function connectSocket(path: string): number {
  const fd = check(calls.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | CLOEXEC, 0), "socket");
  let link: number | undefined;
  try {
    let name = Buffer.from(path);
    if (name.includes(0)) throw systemError("connect", path, 22);
    if (name.length > 107) {
      link = openat2(AT_FDCWD, path, { flags: O.PATH });
      name = Buffer.from(`/proc/self/fd/${link}`);
    }
    const address = socketAddress(name);
    check(calls.connect(fd, address, address.length), "connect", path);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  } finally {
    if (link !== undefined) closeFd(link);
  }
}

/** Sends one message; false when the socket is full. */
export function sendMessage(fd: number, data: Uint8Array): boolean {
  for (;;) {
    if (calls.send(fd, data, data.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    const errno = lastErrno();
    if (errno === EAGAIN) return false;
    if (errno !== EINTR) throw systemError("send", undefined, errno);
  }
}

/** Receives one message into `buffer` and returns its true length; undefined when there is none now. */
export function receiveMessage(fd: number, buffer: Uint8Array): number | undefined {
  for (;;) {
    const length = calls.recv(fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC);
    if (length >= 0) return length;
    const errno = lastErrno();
    if (errno === EAGAIN) return undefined;
    if (errno !== EINTR) throw systemError("recv", undefined, errno);
  }
}

/** The other end sees the end of our messages. Nothing when it is gone already. */
export function shutdownWriting(fd: number): void {
  calls.shutdown(fd, SHUT_WR);
}

/** A counter that wakes who waits for its descriptor. */
export const createEvent = (): number => check(calls.eventfd(0, SOCK_NONBLOCK | CLOEXEC), "eventfd");

const one = new BigUint64Array([1n]);
const count = new BigUint64Array(1);

export function raiseEvent(fd: number): void {
  calls.write(fd, one, 8);
}

export function clearEvent(fd: number): void {
  calls.read(fd, count, 8);
}

/** struct epoll_event is packed on x86-64 only: events, then 64 bits of ours. */
const eventSize = process.arch === "x64" ? 12 : 16;
const dataAt = eventSize - 8;
const mostEvents = 64;

export type ReadyEvent = { readonly id: number; readonly events: number };

/** Descriptors, each under an id of the caller's choice. */
export class Epoll implements Disposable {
  readonly #fd = check(calls.epollCreate(CLOEXEC), "epoll_create1");
  readonly #event = Buffer.alloc(eventSize);
  readonly #ready = Buffer.alloc(eventSize * mostEvents);

  #control(operation: 1 | 2 | 3, fd: number, entry: ReadyEvent): void {
    this.#event.writeUInt32LE(entry.events >>> 0, 0);
    this.#event.writeUInt32LE(entry.id, dataAt);
    check(calls.epollCtl(this.#fd, operation, fd, this.#event), "epoll_ctl");
  }

  add(fd: number, entry: ReadyEvent): void {
    this.#control(1, fd, entry);
  }

  change(fd: number, entry: ReadyEvent): void {
    this.#control(3, fd, entry);
  }

  remove(fd: number): void {
    this.#control(2, fd, { id: 0, events: 0 });
  }

  /** Waits, at most `milliseconds`. */
  wait(milliseconds: number): ReadyEvent[] {
    const length = calls.epollWait(this.#fd, this.#ready, mostEvents, milliseconds);
    if (length < 0 && lastErrno() !== EINTR) throw systemError("epoll_wait");
    return Array.from({ length: Math.max(length, 0) }, (_, index) => ({
      events: this.#ready.readUInt32LE(index * eventSize),
      id: this.#ready.readUInt32LE(index * eventSize + dataAt),
    }));
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
