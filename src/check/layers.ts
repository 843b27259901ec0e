/**
 * Layers of one driver: records against data, both ways, then every layer that can be seen is verified by digest, two
 * at a time, in pool workers. Nothing here writes.
 */
import { join } from "node:path";
import { chainIdOf, parseChainId, parseDiffId } from "../base/digest.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";
import { type CheckContext, type DriverState, layerObject, lostLayer } from "./context.ts";
import { lackingDiff, reportDiffs } from "./diffs.ts";
import type { Mend } from "./problem.ts";
import { rebuildInit } from "./rebuild-init.ts";
import { ancestryOf, type LayerRecord, stackOf } from "./records.ts";
import { reportVerified } from "./report-layer.ts";
import type { Verified, VerifyArgument } from "./verify-task.ts";

const tasks = new URL("./verify-task.ts", import.meta.url);

/** Verifications under way at once. */
const atOnce = 2;

/** Failures that say nothing about the layer. */
const notItsFault = new Set(["forbidden", "unsupported", "no_space"]);

/** Layers that somebody needs, of every driver. */
export function neededLayers({ snapshot }: CheckContext): ReadonlySet<string> {
  const held = snapshot.owners.map(({ layer }) => layer);
  const inits = snapshot.writables.flatMap(({ init }) => (init === undefined ? [] : [init]));
  return new Set([...held, ...inits].flatMap((id) => ancestryOf(snapshot, id) ?? [id]));
}

/** What the records say, and what the driver has. */
export async function checkLayerRecords(context: CheckContext, driver: StorageDriver): Promise<DriverState> {
  const present = new Set(await driver.list());
  const visible = new Set<string>();
  const state: DriverState = { driver, present, visible, damaged: new Set() };
  const { snapshot } = context;
  const rows = [...snapshot.layers.values()].filter((row) => row.driver === driver.name);
  const depth = (row: LayerRecord): number => ancestryOf(snapshot, row.id)?.length ?? Number.MAX_SAFE_INTEGER;
  for (const row of rows.toSorted((a, b) => depth(a) - depth(b))) {
    if (row.state !== "ready") reportHalfMade(context, state, row);
    else if (await checkRecord(context, state, row)) visible.add(row.id);
  }
  const going = reportUnused(context, state, rows);
  reportDiffs(context, state, going);
  reportUnknown(context, state);
  return state;
}

/** True when the layer can be seen. */
async function checkRecord(context: CheckContext, state: DriverState, row: LayerRecord): Promise<boolean> {
  const { snapshot, findings } = context;
  const object = layerObject(row);
  if (row.parent !== undefined && !snapshot.layers.has(row.parent)) {
    state.damaged.add(row.id);
    const repair = lostLayer(context, row);
    findings.push({
      kind: "layer-parent-missing",
      object,
      detail: `its parent (data ${row.parent}) is not recorded`,
      repair,
    });
    return false;
  }
  const ancestry = ancestryOf(snapshot, row.id);
  const contradiction = ancestry === undefined ? "what is below it cannot be followed" : contradictionOf(context, row);
  if (contradiction !== undefined) {
    const above = ancestry === undefined && row.parent !== undefined && state.damaged.has(row.parent);
    state.damaged.add(row.id);
    if (!above)
      findings.push({ kind: "layer-record-damaged", object, detail: contradiction, repair: lostLayer(context, row) });
    if (ancestry === undefined) return false;
  }
  if (!state.present.has(row.id)) return reportMissing(context, state, { row, why: "the driver has no such data" });
  if (state.driver.traits.keeps === "diff" && ancestry?.slice(1).some((id) => !state.visible.has(id)) === true) {
    context.checked.unverified++;
    return false;
  }
  const lacks = lackingDiff(context, state, row);
  if (lacks !== undefined) return reportMissing(context, state, { row, why: lacks });
  const why = await whyInvisible(context, state.driver, stackOf(snapshot, row.id));
  return why === undefined || reportMissing(context, state, { row, why });
}

function contradictionOf({ snapshot }: CheckContext, row: LayerRecord): string | undefined {
  if (row.kind === "init") return undefined;
  const parent = row.parent === undefined ? undefined : snapshot.layers.get(row.parent);
  try {
    const below = parent === undefined ? undefined : parseChainId(parent.chainId);
    const chain = chainIdOf(below, parseDiffId(row.diffId));
    return chain === row.chainId ? undefined : `its chain ID should be ${chain} by its parent and diff ID`;
  } catch (error) {
    return errorMessage(error);
  }
}

async function whyInvisible(
  { mountView }: CheckContext,
  driver: StorageDriver,
  [id = "", ...parents]: readonly string[],
): Promise<string | undefined> {
  try {
    await using _view = await mountView(await driver.mounts({ id, parents }, "layer"));
    return undefined;
  } catch (error) {
    if (error instanceof EngineError && notItsFault.has(error.code)) throw error;
    return errorMessage(error);
  }
}

function reportMissing(
  context: CheckContext,
  state: DriverState,
  { row, why }: { readonly row: LayerRecord; readonly why: string },
): false {
  state.damaged.add(row.id);
  const { snapshot, findings } = context;
  const object = layerObject(row);
  const finding = { kind: "layer-data-missing", object, detail: why } as const;
  if (row.kind === "image") {
    findings.push({ ...finding, repair: lostLayer(context, row) });
    return false;
  }
  const used = snapshot.writables.some(({ init }) => init === row.id);
  if (!used)
    findings.push({
      ...finding,
      repair: "forgets it; the next container of the image makes it again",
      mend: forget(state, row),
    });
  else
    findings.push({
      ...finding,
      repair: "makes it again: it holds only what the engine puts into every container",
      mend: {
        run: () => rebuildInit(context, state.driver, stackOf(snapshot, row.id)),
        // Where trees are compared, the new files' times count as changes: the containers are measured anew.
        statements: [{ sql: "UPDATE layer_writables SET size = NULL WHERE init = ?", parameters: [row.id] }],
      },
    });
  return false;
}

const forget = ({ driver }: DriverState, { id }: LayerRecord): Mend => ({
  discard: { driver, id },
  statements: [
    { sql: "UPDATE layer_layers SET parent = NULL WHERE parent = ? AND state <> 'ready'", parameters: [id] },
    { sql: "UPDATE layer_writables SET init = NULL WHERE init = ? AND state <> 'ready'", parameters: [id] },
    { sql: "DELETE FROM layer_layers WHERE id = ?", parameters: [id] },
  ],
});

function reportHalfMade({ findings }: CheckContext, state: DriverState, row: LayerRecord): void {
  findings.push({
    kind: "layer-half-made",
    object: `${row.kind} layer (data ${row.id})`,
    detail: `its record says ${row.state}`,
    repair: "removes it with its data, as the next start of the daemon does",
    mend: forget(state, row),
  });
}

/** Returns the ids of what is not needed. */
function reportUnused(context: CheckContext, state: DriverState, rows: readonly LayerRecord[]): ReadonlySet<string> {
  const needed = neededLayers(context);
  // Without a parent an init layer serves containers without an image; it stays.
  const isUnused = ({ id, kind, parent, state: at }: LayerRecord): boolean =>
    at === "ready" && !needed.has(id) && (kind === "image" || (parent !== undefined && !needed.has(parent)));
  const unused = rows.filter((row) => isUnused(row) && !state.damaged.has(row.id));
  const depth = ({ id }: LayerRecord): number => ancestryOf(context.snapshot, id)?.length ?? 0;
  for (const row of unused.toSorted((a, b) => depth(b) - depth(a)))
    context.findings.push({
      kind: "layer-unused",
      object: layerObject(row),
      detail: "no image, container or other layer needs it",
      repair: "removes it",
      mend: forget(state, row),
    });
  return new Set(unused.map(({ id }) => id));
}

/** Data without a record. Ids of other drivers' rows cannot stand here: ids are never used twice. */
function reportUnknown({ snapshot, findings }: CheckContext, { driver, present }: DriverState): void {
  const known = new Set([
    ...snapshot.layers.keys(),
    ...snapshot.diffs.keys(),
    ...snapshot.writables.map(({ data }) => data),
  ]);
  for (const id of present)
    if (!known.has(id))
      findings.push({
        kind: "layer-data-unknown",
        object: `data ${id} of ${driver.name}`,
        detail: `a directory below ${driver.home} that no record names`,
        repair: "removes it, as the next start of the daemon does",
        mend: { discard: { driver, id } },
      });
}

/** Verifies every image layer that can be seen; tells how far it is. */
export async function verifyLayers(context: CheckContext, states: readonly DriverState[]): Promise<void> {
  const jobs = states.flatMap((state) =>
    [...state.visible].flatMap((id) => {
      const row = context.snapshot.layers.get(id);
      return row?.kind === "image" ? [{ state, row }] : [];
    }),
  );
  const results: { readonly job: (typeof jobs)[number]; readonly verified: Verified }[] = [];
  const waiting = jobs.values();
  const runner = async (): Promise<void> => {
    for (const job of waiting) {
      results.push({ job, verified: await verify(context, job.state, job.row) });
      context.progress(results.length, jobs.length);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, runner));
  // Parents first, so that a damaged one is known when its children are judged.
  for (const job of jobs) {
    const found = results.find((result) => result.job === job);
    if (found !== undefined) reportVerified(context, job, found.verified);
  }
}

async function verify(context: CheckContext, { driver, visible }: DriverState, row: LayerRecord): Promise<Verified> {
  const { snapshot } = context;
  const [id = "", ...parents] = stackOf(snapshot, row.id);
  await using stack = new AsyncDisposableStack();
  const { path: root } = stack.use(await context.mountView(await driver.mounts({ id, parents }, "layer")));
  const below = await viewBelow(stack);
  const recipePath = join(context.dataRoot, "layers/recipes", row.diff ?? row.id);
  const argument: VerifyArgument = { recipePath, root, below, tarSize: row.tarSize };
  const verified = await context.pool.run<VerifyArgument, Verified>(tasks, "verifyLayerTask", argument);
  context.checked.layers++;
  context.checked.bytes += verified.tarSize;
  return verified;

  async function viewBelow(views: AsyncDisposableStack) {
    if (row.parent !== undefined && !visible.has(row.parent)) return undefined;
    const [parent, ...more] = row.parent === undefined ? [] : stackOf(snapshot, row.parent);
    const mounts = parent === undefined ? [] : await driver.mounts({ id: parent, parents: more }, "layer");
    return views.use(await context.mountView(mounts)).path;
  }
}
