/**
 * Whether this process lives in a user namespace of its own, and what follows for overlayfs: there it keeps its marks
 * in `user.overlay.*` (option `userxattr`), because `trusted.*` belongs to the initial namespace. An attribute with the
 * other prefix is a file's own. Read once; a process does not move.
 */
import { readFileSync } from "node:fs";

let known: boolean | undefined;

export function inUserNamespace(): boolean {
  known ??= readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/).join(" ") !== "0 0 4294967295";
  return known;
}

/** What the names of overlayfs' own attributes begin with. */
export const overlayMarkPrefix = (): string => (inUserNamespace() ? "user.overlay." : "trusted.overlay.");
