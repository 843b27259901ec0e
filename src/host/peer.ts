/** Who is at the other end of a unix socket (SO_PEERCRED, unix(7)). */
import type { Socket } from "node:net";
import { identify, type ProcessIdentity } from "./kernel-process.ts";
import { native } from "./libc.ts";

const getsockopt = native("int getsockopt(int, int, int, void *, void *)");
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** struct ucred: pid, uid, gid. */
const credentialsSize = 12;

/** The process that connected; undefined when it is gone, or not to be seen from here. */
export async function peerOf(socket: Socket): Promise<ProcessIdentity | undefined> {
  // Node has no public name for the descriptor of a connection.
  const handle: unknown = Reflect.get(socket, "_handle");
  if (typeof handle !== "object" || handle === null || !("fd" in handle) || typeof handle.fd !== "number")
    return undefined;
  const credentials = Buffer.alloc(credentialsSize);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(credentialsSize);
  if (getsockopt(handle.fd, SOL_SOCKET, SO_PEERCRED, credentials, size) !== 0) return undefined;
  const pid = credentials.readInt32LE(0);
  return pid > 0 ? identify(pid) : undefined;
}
