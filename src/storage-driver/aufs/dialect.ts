/**
 * Names by which aufs keeps its own affairs in a branch (aufs.5; OCI's whiteouts were taken from it):
 *
 *   .wh.<name>        a *whiteout*: <name> of the branches below is not seen
 *   .wh..wh..opq      the directory is *opaque*: nothing of the branches below is seen in it
 *   .wh..wh.<other>   aufs' own: plnk/ (names of hard links over branches), orph/ (deleted and open), aufs (what
 *                     whiteouts are links to), and names that are half renamed or removed
 *
 * Names are bytes. No container can make one of them: aufs refuses it.
 */
import type { ByteString } from "../../archive/bytes.ts";

const whiteoutPrefix = ".wh.";
const ownPrefix = ".wh..wh.";
export const opaqueName = ".wh..wh..opq";

export type AufsName =
  | { readonly kind: "entry" }
  | { readonly kind: "whiteout"; readonly of: ByteString }
  | { readonly kind: "opaque" }
  /** Means nothing outside aufs. */
  | { readonly kind: "own" }
  /** No aufs writes it. */
  | { readonly kind: "wrong" };

/** What `name` means in a directory of a branch. */
export function meaningOf(name: ByteString): AufsName {
  if (!name.startsWith(whiteoutPrefix)) return { kind: "entry" };
  if (name === opaqueName) return { kind: "opaque" };
  if (name.startsWith(ownPrefix)) return { kind: "own" };
  const of = name.slice(whiteoutPrefix.length);
  return of === "" || of === "." || of === ".." ? { kind: "wrong" } : { kind: "whiteout", of };
}
