/** What people call an image by: a reference, a whole id, or the beginning of an id (Docker's ParseAnyReference). */
import { type ImageId, parseImageId } from "../base/digest.ts";
import { canonicalName, familiarName, parseReference, type Reference, withDefaultTag } from "../base/reference.ts";

export type Target = {
  /** A whole id: nothing else is meant then. */
  readonly id?: ImageId;
  /** Canonical, with the default tag; by digest alone where it has one. */
  readonly reference?: string;
  /** "sha256:" and the first hex digits. */
  readonly prefix?: string;
  /** How "No such image" shows it. */
  readonly shown: string;
};

/** Throws invalid_argument for what cannot be a name of an image. */
export function parseTarget(text: string): Target {
  if (/^(?:sha256:)?[a-f0-9]{64}$/.test(text)) {
    const id = parseImageId(`sha256:${text.slice(-64)}`);
    return { id, shown: id };
  }
  const parsed = withDefaultTag(parseReference(text));
  const stored: Reference = parsed.digest === undefined ? parsed : { ...parsed, tag: undefined };
  const hex = /^(?:sha256:)?([a-f0-9]{1,63})$/.exec(text)?.[1];
  const target = { reference: canonicalName(stored), shown: familiarName(parsed) };
  return hex === undefined ? target : { ...target, prefix: `sha256:${hex}` };
}
