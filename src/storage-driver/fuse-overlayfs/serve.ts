/** The program's command line as a mount step, and the marks that it keeps in xattrs. */
import type { MountStep } from "../../base/mount.ts";

export const program = "fuse-overlayfs";

/** The program obeys these, and hides them from its view. */
export const ownMarks = [
  "trusted.overlay.",
  "user.overlay.",
  "user.fuseoverlayfs.",
  "security.fuseoverlayfs.",
  "user.containers.",
] as const;

export const isOwnMark = (attribute: string): boolean => ownMarks.some((prefix) => attribute.startsWith(prefix));

/** Where changes go, and the program's scratch beside it. */
export type Upper = { readonly diff: string; readonly work: string };

/**
 * The tree of `lower`, the topmost first, with `writable` above them; all are relative
 * to `home`. Without `writable` the program serves it read-only. Devices work in it, as in a mount of the kernel.
 */
export function serve(home: string, lower: readonly string[], writable?: Upper): MountStep {
  const options = ["dev", "suid", `lowerdir=${lower.join(":")}`];
  if (writable === undefined) options.push("ro");
  else options.push(`upperdir=${writable.diff}`, `workdir=${writable.work}`);
  return { kind: "helper", program, args: ["-o", options.join(",")], directory: home };
}
