/** Lexical cleaning of absolute POSIX paths, as Go's path.Clean does it; says nothing about symlinks. Pure. */
import { posix } from "node:path";

/** No `.`, `..`, double or trailing slash; "" becomes ".". */
export function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 && clean.endsWith("/") ? clean.slice(0, -1) : clean;
}

/** Relative, not empty, and below where it starts, by its words alone (Go's filepath.IsLocal). */
export function isLocalPath(path: string): boolean {
  if (path === "" || path.startsWith("/")) return false;
  const clean = cleanPath(path);
  return clean !== ".." && !clean.startsWith("../");
}
