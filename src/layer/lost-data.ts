/**
 * Data that a record names and the driver no longer has: somebody deleted it, or a disk lost it. It is told at start-up
 * and to whoever needs it, by what it was, instead of as a failed mount.
 */
import { EngineError } from "../base/errors.ts";
import type { LayerRef } from "../storage-driver/driver.ts";
import type { Parts } from "./parts.ts";

/** Runs `work`, which needs every layer of `ref`; a failure says what is missing, if anything is. */
export async function orTellLost<T>(parts: Parts, ref: LayerRef, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const there = new Set(await parts.driver.list());
    const lost = [ref.id, ...ref.parents].find((id) => !there.has(id));
    throw lost === undefined ? cause : new EngineError("data_loss", tellLost(parts, lost), { cause });
  }
}

/** One sentence for each layer and container layer without data. */
export function lostAmong(parts: Parts, there: ReadonlySet<string>): readonly string[] {
  const { records, diffRecords } = parts;
  const writables = records.writables().map(({ data }) => data);
  const ids = [...records.layers(), ...diffRecords.ready(), ...records.inits()].map(({ id }) => id);
  return [...ids, ...writables].filter((id) => !there.has(id)).map((id) => tellLost(parts, id));
}

function tellLost({ records, driver }: Parts, id: string): string {
  const layer = records.layers().find((row) => row.id === id || row.diff === id);
  const writable = records.writables().find((row) => row.data === id);
  const what =
    layer !== undefined
      ? `layer ${layer.chainId} (${layer.diffId})`
      : writable !== undefined
        ? `the layer of container ${writable.id}`
        : "a layer of the engine's own files";
  return `${what} is lost: ${driver.name} has no ${id} in ${driver.home}; \`strata check\` says what it was for and what can be mended`;
}
