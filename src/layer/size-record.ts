/**
 * Knowing when a recorded size is true. A writable that is about to be mounted is marked first; the mark goes when its
 * size was measured after the last unmount. So a figure without a mark is exact, also after a power cut: where the
 * data and the mark share a journal that keeps order (ext4, xfs), nothing written after the mark survives without it,
 * and the mark needs no sync of its own; elsewhere the database takes the figure back, durably.
 *
 *   <data root>/layers/open/<id>   an empty file: this writable was mounted since it was measured
 */
import { access, mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { filesystemName } from "../host/filesystem.ts";
import { removeFile } from "../host/remove-file.ts";
import type { Parts } from "./parts.ts";
import type { WritableRow } from "./records.ts";

const ordered = new Set(["extfs", "xfs", "tmpfs"]);

export class SizeRecord {
  readonly #parts: Parts;
  readonly #folder: string;
  #useFile = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#folder = join(parts.folder, "open");
  }

  /** Makes the folder, and forgets marks of writables that are gone; returns which are marked. */
  async open(known: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const marked = await readdir(this.#folder);
    for (const name of marked) if (!known.has(name)) await this.forget(name);
    const { home } = this.#parts.driver;
    const sameFilesystem = (await stat(home)).dev === (await stat(this.#folder)).dev;
    this.#useFile = sameFilesystem && ordered.has(await filesystemName(home));
    return new Set(marked);
  }

  /** Before a mount: from now on the recorded figure says nothing. */
  async mark({ data, size }: WritableRow): Promise<void> {
    const { records } = this.#parts;
    if (this.#useFile) await writeFile(join(this.#folder, data), "");
    else if (size !== undefined) await records.transact([records.sizeOfWritable(data, undefined)]);
  }

  /** The exact size, or undefined when it must be measured. */
  async read({ data, size }: WritableRow): Promise<number | undefined> {
    return (await this.#isMarked(data)) ? undefined : size;
  }

  /** After measuring an unmounted writable. */
  async write({ data, size }: WritableRow, measured: number): Promise<void> {
    const { records } = this.#parts;
    if (size !== measured) await records.transact([records.sizeOfWritable(data, measured)]);
    await this.forget(data);
  }

  async forget(data: string): Promise<void> {
    await removeFile(join(this.#folder, data));
  }

  async #isMarked(data: string): Promise<boolean> {
    // Who cannot look must measure.
    return access(join(this.#folder, data)).then(
      () => true,
      (error: unknown) => systemCode(error) !== "ENOENT",
    );
  }
}
