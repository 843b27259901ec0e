/** Reads the file of a secret in a worker: its disk may take its time. Messages never hold what was read. */
import { fstatSync, readSync } from "node:fs";
import { EngineError } from "../base/errors.ts";
import { AT_FDCWD, closeFd, O, openat2, RESOLVE } from "../host/sys.ts";

/** `shared`: others may read it as well. */
export type ReadFileArgument = { readonly path: string; readonly shared: boolean };

const largest = 64 * 1024;

export function readSecretTask({ path, shared }: ReadFileArgument): string {
  // Without O_NONBLOCK a pipe would be waited for.
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK;
  const fd = openat2(AT_FDCWD, path, { flags, resolve: RESOLVE.NO_MAGICLINKS });
  try {
    const { mode, size } = fstatSync(fd);
    if ((mode & 0o170000) !== 0o100000) throw wrong("is no regular file");
    const open = shared ? 0o022 : 0o066;
    if ((mode & open) !== 0)
      throw wrong(shared ? "may be written by others: chmod 644" : "is open to others: chmod 600");
    if (size > largest) throw wrong(`is larger than ${largest} bytes`);
    return textOf(readAll(fd));
  } finally {
    closeFd(fd);
  }
}

const wrong = (words: string): EngineError => new EngineError("invalid_argument", words);

/** It may grow meanwhile. */
function readAll(fd: number): Buffer {
  const buffer = Buffer.alloc(largest + 1);
  let length = 0;
  for (let read = -1; read !== 0 && length < buffer.length; length += read)
    read = readSync(fd, buffer, length, buffer.length - length, null);
  if (length > largest) throw wrong(`is larger than ${largest} bytes`);
  return buffer.subarray(0, length);
}

function textOf(bytes: Buffer): string {
  if (bytes.includes(0)) throw wrong("holds a NUL; a secret is text");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw wrong("is not text in UTF-8");
  }
  const secret = text.endsWith("\n") ? text.slice(0, -1) : text;
  if (secret === "") throw wrong("is empty");
  return secret;
}
