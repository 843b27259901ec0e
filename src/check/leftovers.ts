/** What an operation that was cut short left behind: staging, mounts, recipes and folders that nothing names. */
import { join } from "node:path";
import { namesIn } from "../host/names-in.ts";
import { listCopies } from "../volume/verb-records.ts";
import type { CheckContext } from "./context.ts";
import type { ProblemKind } from "./problem.ts";

/** To be called before the check mounts anything itself. */
export async function checkLeftovers(context: CheckContext): Promise<void> {
  const { dataRoot, execRoot, snapshot } = context;
  await reportPaths(context, join(dataRoot, "staging"), { noun: "a member of an archive that was being loaded" });
  await reportPaths(context, join(dataRoot, "staging-build"), { noun: "the context of a build" });
  const volumes = { noun: "a half-made or removed volume", is: (name: string) => /^\.(new|gone)-/.test(name) };
  await reportPaths(context, join(dataRoot, "volumes"), volumes);
  const kept = new Set(listCopies(snapshot.database).flatMap(({ id, state }) => (state === "ready" ? [id] : [])));
  const copies = { noun: "a copy of a volume that no record names", is: (name: string) => !kept.has(name) };
  await reportPaths(context, join(dataRoot, "volume-snapshots"), copies);
  const writables = new Set(snapshot.writables.map(({ data }) => data));
  const marks = { noun: "a mark of a container's layer that is gone", is: (name: string) => !writables.has(name) };
  await reportPaths(context, join(dataRoot, "layers/open"), marks);
  const isUnknown = (name: string): boolean => !snapshot.layers.has(name) && !snapshot.diffs.has(name);
  const recipes = { noun: "no record names it", is: isUnknown, kind: "layer-recipe-unknown" } as const;
  await reportPaths(context, join(dataRoot, "layers/recipes"), recipes);
  const containers = new Set(snapshot.containers.map(({ id }) => String(id)));
  const isGone = (name: string): boolean => /^[0-9a-f]{64}$/.test(name) && !containers.has(name);
  const folders = { noun: "no record names the container", is: isGone, kind: "container-unknown" } as const;
  await reportPaths(context, join(dataRoot, "containers"), folders);
  await reportMounts(context, join(execRoot, "mnt"), () => true);
  const mounted = new Set(snapshot.writables.flatMap(({ id, state }) => (state === "ready" ? [id] : [])));
  await reportMounts(context, join(execRoot, "layers"), (name) => !mounted.has(name));
}

type Rule = { readonly noun: string; readonly is?: (name: string) => boolean; readonly kind?: ProblemKind };

async function reportPaths(
  { findings }: CheckContext,
  folder: string,
  { noun, is = () => true, kind = "leftover" }: Rule,
): Promise<void> {
  for (const name of (await namesIn(folder)).filter(is)) {
    const path = join(folder, name);
    findings.push({ kind, object: path, detail: noun, repair: "removes it", mend: { remove: path } });
  }
}

async function reportMounts({ findings }: CheckContext, folder: string, is: (name: string) => boolean): Promise<void> {
  for (const name of (await namesIn(folder)).filter(is)) {
    const path = join(folder, name);
    const detail = "a place of a mount that nobody uses";
    findings.push({
      kind: "leftover",
      object: path,
      detail,
      repair: "unmounts and removes it",
      mend: { unmount: path },
    });
  }
}
