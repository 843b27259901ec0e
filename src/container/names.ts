/**
 * Names of containers: what one may look like, who holds which, and how `name | full id | id prefix` finds a container.
 * A name is held from the moment a create or rename asks for it, so that two at once cannot both win.
 */
import { EngineError } from "../base/errors.ts";
import { randomName } from "./random-name.ts";

const grammar = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
/** As long as a file's name may be: filters match names by patterns, in a time that grows with their length. */
const longest = 255;
const randomTries = 6;

/** The name without its leading slash. Throws invalid_argument with Docker's text. */
export function parseContainerName(text: string): string {
  const name = text.startsWith("/") ? text.slice(1) : text;
  if (!grammar.test(name))
    throw new EngineError(
      "invalid_argument",
      `Invalid container name (${text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  if (name.length > longest)
    throw new EngineError("invalid_argument", `Invalid container name: it has more than ${longest} characters`);
  return name;
}

/** Who holds which name. */
export class NameTable {
  readonly #holders = new Map<string, string>();

  /** Throws conflict with Docker's text while another container holds the name. */
  take(name: string, id: string): void {
    const holder = this.#holders.get(name);
    if (holder !== undefined && holder !== id)
      throw new EngineError(
        "conflict",
        `Conflict. The container name "/${name}" is already in use by container "${holder}". ` +
          "You have to remove (or rename) that container to be able to reuse that name.",
      );
    this.#holders.set(name, id);
  }

  /** Takes a free name of our own words; the short id when chance is against us. */
  takeRandom(id: string): string {
    for (let attempt = 0; attempt < randomTries; attempt++) {
      const name = attempt === 0 ? randomName() : `${randomName()}${attempt}`;
      if (this.#holders.has(name)) continue;
      this.take(name, id);
      return name;
    }
    const name = id.slice(0, 12);
    this.take(name, id);
    return name;
  }

  /** Lets go of a name that `id` holds; another holder's stays. */
  release(name: string, id: string): void {
    if (this.#holders.get(name) === id) this.#holders.delete(name);
  }

  holder(name: string): string | undefined {
    return this.#holders.get(name);
  }
}

/** Docker's order: full id, name (with or without slash), unique prefix of an id. Throws not_found "No such container: x". */
export function resolveContainerId(text: string, ids: Iterable<string>, names: NameTable): string {
  const known = [...ids];
  if (known.includes(text)) return text;
  const named = names.holder(text.startsWith("/") ? text.slice(1) : text);
  if (named !== undefined && known.includes(named)) return named;
  const found = /^[0-9a-f]{1,64}$/.test(text) ? known.filter((id) => id.startsWith(text)) : [];
  if (found.length > 1) throw new EngineError("invalid_argument", `Multiple IDs found with provided prefix: ${text}`);
  const [id] = found;
  if (id === undefined) throw new EngineError("not_found", `No such container: ${text}`);
  return id;
}
