/** What an entry of a layer's tar is for, by its name (OCI image-spec, layer.md; aufs' own names are of no use elsewhere). */
import { EngineError } from "../base/errors.ts";
import { type ByteString, quoted } from "./bytes.ts";

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";
const aufsPrefix = ".wh..wh.";
export const aufsLinks = ".wh..wh.plnk";

/** What the last component of an entry's name means. */
export type Meaning = { readonly kind: "entry" } | { readonly kind: "ignored" } | Whiteout;

export type Whiteout =
  | { readonly kind: "opaque"; readonly directory: ByteString }
  | { readonly kind: "whiteout"; readonly directory: ByteString; readonly name: ByteString };

const entry: Meaning = { kind: "entry" };

/** `path` is clean. Throws invalid_argument for a whiteout of nothing. */
export function meaningOf(path: ByteString): Meaning {
  if (!path.includes(whiteout)) return entry;
  const parts = path.split("/");
  const special = parts.findIndex((part) => part.startsWith(whiteout));
  const part = parts[special];
  if (part === undefined) return entry;
  const directory = parts.slice(0, special).join("/");
  const last = special === parts.length - 1;
  if (part === opaque && last) return { kind: "opaque", directory };
  if (part.startsWith(aufsPrefix) && part !== opaque) return { kind: "ignored" };
  const name = part.slice(whiteout.length);
  if (!last || name === "" || name === "." || name === "..")
    throw new EngineError("invalid_argument", `invalid whiteout name ${quoted(path)}`);
  return { kind: "whiteout", directory, name };
}
