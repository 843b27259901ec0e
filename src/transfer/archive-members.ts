/**
 * The members of a streamed tar by name, in whatever order they come. Asking for one reads forward until it comes by;
 * members that were passed on the way are spooled if somebody may need them. So an archive that says first what it
 * holds (as ours do) goes straight through, and one that says it last is spooled once.
 *
 * Names are keys here, never paths on disk. Links are followed inside the archive only.
 */
import { posix } from "node:path";
import type { TarEntry, TarReader } from "../archive/read-tar.ts";
import { EngineError } from "../base/errors.ts";
import type { Spool } from "./spool.ts";

type Member =
  | { readonly kind: "spooled"; readonly number: number; readonly size: number }
  | { readonly kind: "link"; readonly target: string }
  /** Its bytes went straight to the one who asked, or nobody was going to. */
  | { readonly kind: "gone" };

const maxMembers = 100_000;
const maxName = 4096;
const maxNameBytes = 16 * 1024 * 1024;
const maxLinks = 16;

export class ArchiveMembers {
  readonly #reader: TarReader;
  readonly #spool: Spool;
  readonly #signal: AbortSignal | undefined;
  readonly #members = new Map<string, Member>();
  /** How often each name will still be asked for; undefined: unknown. */
  #uses: Map<string, number> | undefined;
  #current: { readonly name: string; readonly size: number; started: boolean } | undefined;
  /** Names that links point at. */
  readonly #targets = new Set<string>();
  #nameBytes = 0;
  #ended = false;

  constructor(reader: TarReader, spool: Spool, signal: AbortSignal | undefined) {
    this.#reader = reader;
    this.#spool = spool;
    this.#signal = signal;
  }

  /** From now on only these names are asked for, once for each time they stand here. */
  expect(names: Iterable<string>): void {
    this.#uses = new Map();
    for (const name of names) {
      const key = normalName(name);
      this.#uses.set(key, (this.#uses.get(key) ?? 0) + 1);
    }
  }

  async has(name: string): Promise<boolean> {
    return (await this.#find(normalName(name))) !== undefined;
  }

  /** The text of a small member; throws invalid_argument when it is missing, longer than `limit` bytes or no UTF-8. */
  async text(name: string, limit: number): Promise<string> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of this.open(name)) {
      length += chunk.length;
      if (length > limit) throw invalid(`invalid archive: ${shown(name)} is longer than ${limit} bytes`);
      chunks.push(chunk);
    }
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
    } catch (cause) {
      throw new EngineError("invalid_argument", `invalid archive: ${shown(name)} is not UTF-8`, { cause });
    }
  }

  /**
   * Reads on to a member; true when others can be read beside it: it stands in the spool, or is put there if it has no
   * more than `limit` bytes.
   */
  async setAside(name: string, limit: number): Promise<boolean> {
    const found = await this.#find(normalName(name));
    if (found === undefined || found.member !== undefined) return found?.member?.kind === "spooled";
    if ((this.#current?.size ?? 0) > limit) return false;
    await this.#keepCurrent();
    return true;
  }

  /** Reads nothing before it is iterated. Throws invalid_argument when the archive has no such file. */
  async *open(name: string): AsyncIterable<Uint8Array> {
    const key = normalName(name);
    const found = await this.#find(key);
    if (found === undefined) throw invalid(`invalid archive: ${shown(name)} is missing`);
    if (found.member?.kind === "gone") throw invalid(`invalid archive: ${shown(name)} is used in two ways`);
    const left = (this.#uses?.get(key) ?? 0) - 1;
    this.#uses?.set(key, left);
    if (found.member?.kind === "spooled") yield* this.#spool.read(found.member.number);
    else if (this.#uses !== undefined && left <= 0) yield* this.#content();
    else {
      await this.#keepCurrent();
      yield* this.open(name);
    }
  }

  /** Follows links. Without `member` it is the current one. */
  async #find(name: string): Promise<{ readonly member?: Member } | undefined> {
    let key = name;
    for (let links = 0; links <= maxLinks; links++) {
      const member = await this.#locate(key);
      if (member === undefined) return this.#current?.name === key ? {} : undefined;
      if (member.kind !== "link") return { member };
      key = member.target;
    }
    throw invalid(`invalid archive: ${shown(name)} is a link that leads nowhere`);
  }

  /** Reads on until `name` is known or current, or the archive ends. */
  async #locate(name: string): Promise<Member | undefined> {
    for (;;) {
      const known = this.#members.get(name);
      if (known !== undefined || this.#current?.name === name || this.#ended) return known;
      await this.#advance();
    }
  }

  async #advance(): Promise<void> {
    if (this.#current !== undefined) await this.#passCurrent();
    this.#signal?.throwIfAborted();
    const entry = await this.#reader.next();
    if (entry === undefined) {
      this.#ended = true;
      return;
    }
    this.#nameBytes += entry.path.length + entry.link.length;
    if (this.#members.size >= maxMembers || this.#nameBytes > maxNameBytes)
      throw invalid(`invalid archive: more than ${maxMembers} members, or very long names`);
    this.#take(entry);
  }

  #take(entry: TarEntry): void {
    const name = normalName(entry.path);
    if (entry.type === "file") this.#current = { name, size: entry.size, started: false };
    else if (entry.type === "link") this.#link(name, normalName(entry.link));
    else if (entry.type === "symlink") this.#link(name, normalName(linkTarget(name, entry.link)));
  }

  #link(name: string, target: string): void {
    this.#members.set(name, { kind: "link", target });
    this.#targets.add(target);
  }

  async #passCurrent(): Promise<void> {
    const current = this.#current;
    const asked = (this.#uses?.get(current?.name ?? "") ?? 0) > 0 || this.#targets.has(current?.name ?? "");
    const unneeded = this.#uses !== undefined && !asked;
    if (current !== undefined && (current.started || unneeded)) {
      this.#members.set(current.name, { kind: "gone" });
      this.#current = undefined;
    } else await this.#keepCurrent();
  }

  async #keepCurrent(): Promise<void> {
    const current = this.#current;
    if (current === undefined) return;
    if (current.started) throw invalid(`invalid archive: ${shown(current.name)} is used in two ways`);
    const number = await this.#spool.write(this.#content());
    this.#members.set(current.name, { kind: "spooled", number, size: current.size });
    this.#current = undefined;
  }

  /** The current member's bytes, copied: the reader uses its buffer again. */
  async *#content(): AsyncIterable<Uint8Array> {
    if (this.#current !== undefined) this.#current.started = true;
    for (let piece = await this.#reader.read(); piece !== undefined; piece = await this.#reader.read()) {
      this.#signal?.throwIfAborted();
      yield Buffer.from(piece);
    }
  }
}

const linkTarget = (name: string, target: string): string =>
  target.startsWith("/") ? target : posix.join(posix.dirname(name), target);

/** One form of a name; throws for names that lead out of the archive. Names are bytes, compared as such. */
export function normalName(name: string): string {
  if (name.length > maxName || name.includes("\0")) throw invalid("invalid archive: a member's name is not usable");
  const normal = posix.normalize(name.replace(/^\/+/, "")).replace(/\/$/, "");
  if (normal === ".." || normal.startsWith("../"))
    throw invalid(`invalid archive: ${shown(name)} leads out of the archive`);
  return normal;
}

const shown = (name: string): string => JSON.stringify(name.slice(0, 200));
const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
