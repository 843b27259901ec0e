/**
 * The folders of an aufs driver, Docker's and ours (moby aufs.go):
 *
 *   <home>/diff/<id>           a layer's or container's own changes, as an aufs branch
 *   <home>/layers/<id>         text: the ids below it, from the direct parent down, one a line
 *   <home>/mnt/<id>            Docker's mount points; `<id>-removing` what Docker was removing
 *
 * Reads such a home; it trusts no name in it, and changes nothing.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, systemCode } from "../../base/errors.ts";
import type { LayerRef } from "../driver.ts";

export type AufsLayer = LayerRef & {
  /** The branch's directory. */
  readonly diff: string;
};

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const removing = /-removing$/;

/** Every layer that an aufs driver left at `home`, parents as its records say. Throws data_loss, naming it, for one that cannot be whole. */
export async function readAufsLayers(home: string): Promise<readonly AufsLayer[]> {
  const ids = (await readdir(join(home, "diff"))).filter((id) => idPattern.test(id) && !removing.test(id)).toSorted();
  const known = new Set(ids);
  const layers: AufsLayer[] = [];
  for (const id of ids) layers.push({ id, parents: await parentsOf(home, id, known), diff: join(home, "diff", id) });
  return layers;
}

async function parentsOf(home: string, id: string, known: ReadonlySet<string>): Promise<readonly string[]> {
  const path = join(home, "layers", id);
  const parents = (await textOf(path, id)).split("\n").filter((line) => line !== "");
  const missing = parents.find((parent) => !known.has(parent));
  if (missing !== undefined)
    throw new EngineError(
      "data_loss",
      `the aufs layer ${id} stands on ${JSON.stringify(missing)}, which ${home} lacks`,
    );
  if (new Set(parents).size !== parents.length || parents.includes(id))
    throw new EngineError("data_loss", `${path} names a layer twice: the chain of the aufs layer ${id} is not known`);
  return parents;
}

async function textOf(path: string, id: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    throw new EngineError("data_loss", `the aufs layer ${id} has no ${path}, which says what it stands on`, {
      cause: error,
    });
  }
}
