/** Says in problems what the verification of one layer found. */
import { type CheckContext, type DriverState, layerObject, lostLayer, pathList } from "./context.ts";
import type { ProblemKind } from "./problem.ts";
import { ancestryOf, type LayerRecord } from "./records.ts";
import type { Verified } from "./verify-task.ts";

type Job = { readonly state: DriverState; readonly row: LayerRecord };

/** Adds what is wrong to the findings, and the layer to the damaged ones when its content is. */
export function reportVerified(context: CheckContext, { state, row }: Job, verified: Verified): void {
  const object = layerObject(row);
  const problems = [...contentProblems(row, verified)];
  const [, ...below] = ancestryOf(context.snapshot, row.id) ?? [];
  // A copy that differs from a damaged parent may be the one that is right.
  if (!below.some((id) => state.damaged.has(id))) problems.push(...treeProblems(verified));
  for (const { kind, detail } of problems)
    context.findings.push({ kind, object, detail, repair: lostLayer(context, row) });
  if (problems.length > 0) state.damaged.add(row.id);
  else if (verified.recipe === "whole") reportSizes(context, row, verified);
}

type Found = { readonly kind: ProblemKind; readonly detail: string };

function* contentProblems(row: LayerRecord, verified: Verified): Generator<Found, void, undefined> {
  if (verified.recipe === "missing") yield { kind: "layer-recipe-missing", detail: "its content cannot be verified" };
  if (verified.recipe === "damaged") yield { kind: "layer-recipe-damaged", detail: verified.recipeProblem };
  const told = new Set(verified.lost.map(({ path }) => `/${path}`));
  const deviations = verified.deviations.filter(({ path }) => !told.has(path));
  const missing = [
    ...verified.lost.flatMap(({ path, how }) => (how === "missing" ? [`/${path}`] : [])),
    ...deviations.flatMap(({ path, kind }) => (kind === "missing" ? [path] : [])),
  ];
  if (missing.length > 0) yield { kind: "layer-file-missing", detail: pathList(missing, "file") };
  const changed = [
    ...verified.lost.flatMap(({ path, how }) => (how === "changed" ? [`/${path}`] : [])),
    ...deviations.flatMap(({ path, kind }) => (kind === "content" ? [path] : [])),
  ];
  if (changed.length > 0) yield { kind: "layer-content-changed", detail: pathList(changed, "file") };
  const attributes = deviations.filter(({ kind }) => kind === "attributes");
  if (attributes.length > 0)
    yield {
      kind: "layer-attributes-changed",
      detail: pathList(
        attributes.map(({ path, detail }) => `${path} (${detail})`),
        "file",
      ),
    };
  const unexplained = verified.recipe !== "whole" || verified.lost.length > 0;
  if (!unexplained && verified.diffId !== row.diffId)
    yield {
      kind: "layer-content-changed",
      detail: `its tar has the digest ${verified.diffId}, recorded is ${row.diffId}`,
    };
}

function* treeProblems({ unexplained }: Verified): Generator<Found, void, undefined> {
  if (unexplained.length === 0) return;
  const lines = unexplained.map(({ path, how }) => `${path} (${how})`);
  yield { kind: "layer-tree-changed", detail: pathList(lines, "path") };
}

/** The digest is right, so what was measured is. */
function reportSizes({ findings }: CheckContext, row: LayerRecord, { size, tarSize }: Verified): void {
  const real = size ?? row.size;
  if (real === row.size && tarSize === row.tarSize) return;
  findings.push({
    kind: "size-differs",
    object: layerObject(row),
    detail: `recorded are ${row.size} bytes in a tar of ${row.tarSize}; it has ${real} in ${tarSize}`,
    repair: "records what was measured",
    mend: {
      statements: [
        {
          sql: "UPDATE layer_layers SET size = ?, tar_size = ? WHERE id = ?",
          parameters: [real, tarSize, row.id],
          changes: 1,
        },
      ],
    },
  });
}
