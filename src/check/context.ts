/** What the parts of a check share: what was read, where to look, and where findings go. */
import type { Pool } from "../host/pool.ts";
import type { StorageDriver } from "../storage-driver/driver.ts";
import type { Checked, Finding, MountView } from "./problem.ts";
import type { LayerRecord, Snapshot } from "./records.ts";

export type CheckContext = {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pool: Pool;
  readonly snapshot: Snapshot;
  readonly drivers: readonly StorageDriver[];
  readonly mountView: MountView;
  readonly findings: Finding[];
  readonly checked: Checked;
  /** Told after each layer. */
  readonly progress: (done: number, total: number) => void;
  /** Names of the images over a layer, for messages. */
  readonly imagesOver: (chainId: string) => readonly string[];
};

/** What a driver has on disk, and which of its layers can be seen. */
export type DriverState = {
  readonly driver: StorageDriver;
  readonly present: ReadonlySet<string>;
  /** Ready layers whose own data is there, and all that they need of the layers below. */
  readonly visible: ReadonlySet<string>;
  /** Layers with a problem of their own. */
  readonly damaged: Set<string>;
};

/** "3 paths: /a, /b, /c". */
export function pathList(lines: readonly string[], noun: string): string {
  const shown = lines.slice(0, 10).join("; ");
  const more = lines.length > 10 ? `; and ${lines.length - 10} more` : "";
  return `${lines.length} ${noun}${lines.length === 1 ? "" : "s"}: ${shown}${more}`;
}

/** How a layer is called in problems. */
export const layerObject = ({ kind, chainId, id }: LayerRecord): string =>
  kind === "init" ? `init layer (data ${id})` : `layer ${chainId} (data ${id})`;

/** What a person can do about a layer that cannot be brought back. */
export function lostLayer({ imagesOver }: CheckContext, { chainId }: LayerRecord): string {
  const names = imagesOver(chainId);
  if (names.length === 0) return "lost: nothing can make it again; no image needs it";
  return `lost: remove ${names.join(", ")} and load it again (docker rmi, then docker load, import or build)`;
}
