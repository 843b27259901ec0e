/**
 * Docker's rules of `rmi`, as a function from what is known to what shall happen; nothing is changed here.
 *
 * A name given: that reference goes; the image follows when it was the last one. An id given: the image goes with its
 * only reference. Conflicts are hard (children, running containers) or soft (other references, stopped containers:
 * force overrides). A parent goes too when nothing needs it, quietly stopping at the first conflict.
 */
import type { ImageId } from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import { canonicalRepository, parseReference, withDefaultTag } from "../base/reference.ts";
import type { RemoveImageOptions } from "./store.ts";

/** What the plan needs to know of the store. */
export type ImagesView = {
  readonly references: (id: ImageId) => readonly string[];
  readonly children: (id: ImageId) => readonly ImageId[];
  readonly parent: (id: ImageId) => ImageId | undefined;
};

export type RemovalStep =
  | { readonly kind: "untag"; readonly reference: string; readonly id: ImageId; readonly event: boolean }
  | { readonly kind: "delete"; readonly id: ImageId };

/** `typed` is what the user gave and what `id` was found by. */
export function planRemoval(
  view: ImagesView,
  { typed, id }: { readonly typed: string; readonly id: ImageId },
  options: RemoveImageOptions,
): readonly RemovalStep[] {
  return new Plan(view, options).run(typed, id);
}

type Conflicts = { readonly references: boolean; readonly stopped: boolean };

class Plan {
  readonly #view: ImagesView;
  readonly #options: RemoveImageOptions;
  readonly #steps: RemovalStep[] = [];
  readonly #untagged = new Set<string>();
  readonly #deleted = new Set<ImageId>();

  constructor(view: ImagesView, options: RemoveImageOptions) {
    this.#view = view;
    this.#options = options;
  }

  run(typed: string, id: ImageId): readonly RemovalStep[] {
    const { force, prune } = this.#options;
    if (isIdPrefix(id, typed)) {
      this.#removeOnlyReference(id);
      this.#delete(id, { force, prune, quiet: false });
    } else {
      this.#removeReference(typed, id);
      if (this.#references(id).length === 0) this.#delete(id, { force, prune, quiet: true });
    }
    return this.#steps;
  }

  #removeReference(typed: string, id: ImageId): void {
    const [user] = this.#options.usedBy(id);
    if (!this.#options.force && isSingle(this.#references(id)) && user !== undefined)
      throw conflict(
        `unable to remove repository reference ${JSON.stringify(typed)} (must force) - container ${short(user.id)} is using its referenced image ${short(id)}`,
      );
    const removed = withDefaultTag(parseReference(typed));
    const stored = removed.digest === undefined ? removed : { ...removed, tag: undefined };
    const repository = canonicalRepository(stored);
    this.#untag(`${repository}${suffixOf(stored)}`, id, true);
    if (stored.digest !== undefined) return;
    // With a repository's last tag its digests go too: nobody could name them.
    const sameRepository = this.#references(id).filter(
      (name) => canonicalRepository(parseReference(name)) === repository,
    );
    if (sameRepository.some((name) => !isDigested(name))) return;
    for (const name of sameRepository) this.#untag(name, id, false);
  }

  #removeOnlyReference(id: ImageId): void {
    const references = this.#references(id);
    if (!isSingle(references)) return;
    this.#check(id, { references: false, stopped: !this.#options.force });
    for (const name of references) this.#untag(name, id, true);
  }

  #delete(id: ImageId, how: { readonly force: boolean; readonly prune: boolean; readonly quiet: boolean }): void {
    const found = this.#conflict(id, { references: !how.force, stopped: !how.force });
    if (found !== undefined) {
      const dangling = this.#references(id).length === 0 && this.#children(id).length === 0;
      if (how.quiet && (!dangling || found.used)) return;
      throw found.error;
    }
    for (const name of this.#references(id)) this.#untag(name, id, false);
    const parent = this.#view.parent(id);
    this.#deleted.add(id);
    this.#steps.push({ kind: "delete", id });
    if (how.prune && parent !== undefined) this.#delete(parent, { force: false, prune: true, quiet: true });
  }

  #check(id: ImageId, conflicts: Conflicts): void {
    const found = this.#conflict(id, conflicts);
    if (found !== undefined) throw found.error;
  }

  #conflict(id: ImageId, check: Conflicts): { readonly error: EngineError; readonly used: boolean } | undefined {
    const users = this.#options.usedBy(id);
    const running = users.find((user) => user.running);
    const stopped = users.find((user) => !user.running);
    const found = (hard: boolean, used: boolean, why: string) => ({
      error: conflict(`unable to delete ${short(id)} (${hard ? "cannot" : "must"} be forced) - ${why}`),
      used,
    });
    if (this.#children(id).length > 0) return found(true, false, "image has dependent child images");
    if (running !== undefined)
      return found(true, true, `image is being used by running container ${short(running.id)}`);
    if (check.references && this.#references(id).length > 0)
      return found(false, false, "image is referenced in multiple repositories");
    if (check.stopped && stopped !== undefined)
      return found(false, true, `image is being used by stopped container ${short(stopped.id)}`);
    return undefined;
  }

  #untag(reference: string, id: ImageId, event: boolean): void {
    this.#untagged.add(reference);
    this.#steps.push({ kind: "untag", reference, id, event });
  }

  #references(id: ImageId): readonly string[] {
    return this.#view.references(id).filter((name) => !this.#untagged.has(name));
  }

  #children(id: ImageId): readonly ImageId[] {
    return this.#view.children(id).filter((child) => !this.#deleted.has(child));
  }
}

/** At most one tag, and every digest in that tag's repository. */
function isSingle(references: readonly string[]): boolean {
  if (references.length <= 1) return true;
  const tags = references.filter((name) => !isDigested(name));
  const digested = new Set(references.filter(isDigested).map((name) => canonicalRepository(parseReference(name))));
  const [first = references[0] ?? ""] = tags;
  return tags.length <= 1 && digested.size === 1 && digested.has(canonicalRepository(parseReference(first)));
}

function isIdPrefix(id: ImageId, typed: string): boolean {
  return id.startsWith(typed) || id.slice("sha256:".length).startsWith(typed);
}

const isDigested = (name: string): boolean => name.includes("@");
const suffixOf = ({
  tag,
  digest,
}: {
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}): string => (digest === undefined ? `:${tag}` : `@${digest}`);
const short = (id: string): string => id.replace(/^sha256:/, "").slice(0, 12);
const conflict = (message: string): EngineError => new EngineError("conflict", `conflict: ${message}`);
