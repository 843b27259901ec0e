/**
 * Counts what encrypted files hold without their key, in a worker. A file of gocryptfs (its format 2) has a header of 18
 * bytes, if it is not empty, and 32 bytes more for every block of 4096; a link's text is encrypted as one block, and
 * written as base64.
 */
import { treeSize } from "../../archive/tree-size.ts";
import type { FileStat } from "../../host/sys.ts";

const header = 18;
const block = 4096;
const overhead = 32;

/** Bytes of the files as their users see them. `path` is the directory of the encrypted files. */
export function plainSizeTask(path: string): number {
  return treeSize(path, plainSize).bytes;
}

function plainSize(name: Buffer, { mode, size }: FileStat): number {
  // gocryptfs.conf, gocryptfs.diriv, the long forms of names
  if (/^gocryptfs\.(conf|diriv|longname\..*\.name)$/.test(name.toString("latin1"))) return 0;
  if ((mode & 0o170000) === 0o120000) return Math.max(0, Math.floor((size * 3) / 4) - overhead);
  if (size <= header) return 0;
  return size - header - Math.ceil((size - header) / (block + overhead)) * overhead;
}
