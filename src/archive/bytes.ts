/**
 * Names of files are bytes. Inside this folder they travel as *byte strings*: JavaScript strings with one character
 * per byte (latin1), so that they compare, sort and serve as map keys byte for byte, and ASCII looks as usual.
 * `nameOf` turns one into what a system call takes, `byteText` into text for people.
 *
 * A *clean path* has no empty, `.` or `..` component, no leading and no trailing slash; the root is "".
 */
import { EngineError } from "../base/errors.ts";

/** One character per byte. */
export type ByteString = string;

// Anything above 0x7f must reach the kernel as the byte it stands for.
const ascii = /^[\x00-\x7f]*$/;

/** What a system call takes: ASCII as it is, other bytes as a Buffer. */
export const nameOf = (bytes: ByteString): string | Buffer =>
  ascii.test(bytes) ? bytes : Buffer.from(bytes, "latin1");

export const bytesOf = (buffer: Uint8Array): ByteString =>
  Buffer.from(buffer.buffer, buffer.byteOffset, buffer.length).toString("latin1");

/** Text of our own (UTF-8) as bytes. */
export const bytesOfText = (text: string): ByteString =>
  ascii.test(text) ? text : Buffer.from(text).toString("latin1");

/** Bytes as text for people and JSON: UTF-8, broken sequences replaced. */
export const byteText = (bytes: ByteString): string =>
  ascii.test(bytes) ? bytes : Buffer.from(bytes, "latin1").toString();

/** Quoted for a message, never longer than a line. */
export const quoted = (bytes: ByteString): string => JSON.stringify(byteText(bytes.slice(0, 200)));

/** The kernel's limit for one path; deeper trees cannot be named by programs either. */
export const longestPath = 4096;

const dirty = /(^|\/)(\.{0,2})(\/|$)/;
/** No component is empty or begins with a dot: quick to tell, and true of most. */
const isPlain = (path: ByteString): boolean =>
  !path.includes("/.") && !path.includes("//") && !path.startsWith(".") && !path.startsWith("/") && !path.endsWith("/");

/**
 * Cleans a path as Go's path.Clean does, without looking at the disk: `a/../b` is `b`, a leading slash means the root,
 * above which nothing leads. Undefined when a relative path leads above the root.
 */
export function cleanPath(path: ByteString): ByteString | undefined {
  if (path !== "" && isPlain(path)) return path;
  // How most tars name their entries.
  if (path.startsWith("./") && path.length > 2 && isPlain(path.slice(2))) return path.slice(2);
  if (!dirty.test(path)) return path;
  const absolute = path.startsWith("/");
  const kept: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") kept.push(part);
    else if (kept.pop() === undefined && !absolute) return undefined;
  }
  return kept.join("/");
}

/** The clean path of an archive's entry; invalid_argument when it leads outside or is too long to exist. */
export function entryPath(path: ByteString, what = "entry"): ByteString {
  if (path.includes("\0")) throw new EngineError("invalid_argument", `${what} ${quoted(path)} has a NUL in its name`);
  const clean = cleanPath(path);
  if (clean === undefined)
    throw new EngineError("invalid_argument", `${what} ${quoted(path)} leads outside of the archive's root`);
  if (clean.length >= longestPath)
    throw new EngineError("invalid_argument", `${what} ${quoted(path)}... has a path of ${clean.length} bytes`);
  return clean;
}

/** `parent` and `name` of a clean path; the parent of a top-level name is "". */
export function splitPath(path: ByteString): { readonly parent: ByteString; readonly name: ByteString } {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? { parent: "", name: path } : { parent: path.slice(0, slash), name: path.slice(slash + 1) };
}

/** Joins clean paths. */
export const joinPath = (parent: ByteString, name: ByteString): ByteString =>
  parent === "" ? name : `${parent}/${name}`;
