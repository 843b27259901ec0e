/** Unpacked tars that layers share: records against data, both ways. Their content is verified with each layer that stands on one. */
import { decodeFacts } from "../archive/diff-facts.ts";
import { isError } from "../base/errors.ts";
import type { CheckContext, DriverState } from "./context.ts";
import type { Mend } from "./problem.ts";
import type { DiffRecord, LayerRecord } from "./records.ts";

/** Why a layer that has a diff cannot be seen; undefined when its diff is there, or it has none. */
export function lackingDiff({ snapshot }: CheckContext, state: DriverState, { diff }: LayerRecord): string | undefined {
  if (diff === undefined) return undefined;
  if (snapshot.diffs.get(diff)?.state !== "ready")
    return `the unpacked tar that it shares (data ${diff}) is not recorded`;
  return state.present.has(diff) ? undefined : `the unpacked tar that it shares (data ${diff}) is not there`;
}

/** Reports diffs that are half-made, that no layer needs, or that cannot be shared further; `going` are layers that are not needed. */
export function reportDiffs(
  { snapshot, findings }: CheckContext,
  { driver }: DriverState,
  going: ReadonlySet<string>,
): void {
  const staying = [...snapshot.layers.values()].filter(({ id, state }) => state === "ready" && !going.has(id));
  const used = new Set(staying.map(({ diff }) => diff));
  for (const diff of snapshot.diffs.values()) {
    if (diff.driver !== driver.name) continue;
    const object = `unpacked tar ${diff.diffId} (data ${diff.id})`;
    const detail = diff.state === "ready" ? "no layer stands on it" : `its record says ${diff.state}`;
    const kind = diff.state === "ready" ? "layer-unused" : "layer-half-made";
    if (diff.state !== "ready" || !used.has(diff.id))
      findings.push({ kind, object, detail, repair: "removes it", mend: forget(driver, diff) });
    else if (isDamaged(diff))
      findings.push({
        kind: "layer-record-damaged",
        object,
        detail: "what is recorded of its directories cannot be read",
        repair: "forgets that: the tar is unpacked again for further parents",
        mend: { statements: [{ sql: "UPDATE layer_diffs SET facts = NULL WHERE id = ?", parameters: [diff.id] }] },
      });
  }
}

const forget = (driver: DriverState["driver"], { id }: DiffRecord): Mend => ({
  discard: { driver, id },
  statements: [
    { sql: "UPDATE layer_layers SET diff = NULL WHERE diff = ? AND state <> 'ready'", parameters: [id] },
    { sql: "DELETE FROM layer_diffs WHERE id = ?", parameters: [id] },
  ],
});

function isDamaged({ facts }: DiffRecord): boolean {
  if (facts === undefined) return false;
  try {
    decodeFacts(facts);
    return false;
  } catch (error) {
    if (isError(error, "data_loss")) return true;
    throw error;
  }
}
