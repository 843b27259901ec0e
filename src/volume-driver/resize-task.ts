/** Sets the limits of volumes that exist, where the data need not move for that; in a pool worker. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { canGrowImages, growImage } from "../host/grow-image.ts";
import { limitProject, projectOf } from "../host/project-quota.ts";
import { imageBytes } from "../host/size-image.ts";
import { limitTask, unlimitTask } from "../host/subvolume-task.ts";
import { dataName } from "./content.ts";
import { type DataForm, imageName } from "./content-task.ts";

/** `size` in bytes; undefined is no limit. */
export type Resize = { readonly home: string; readonly form: DataForm; readonly size: number | undefined };

/** False where the data has to be made anew for that. */
export function resizeTask({ home, form, size }: Resize): boolean {
  const data = join(home, dataName);
  if (form === "subvolume") {
    if (size === undefined) unlimitTask({ path: data });
    else limitTask({ path: data, bytes: size });
    return true;
  }
  if (form === "project") {
    limitProject(data, projectOf(data), size ?? 0);
    return true;
  }
  if (form === "plain") return size === undefined;
  const file = join(home, imageName);
  if (size === undefined || imageBytes(size) < statSync(file).size || !canGrowImages()) return false;
  growImage(file, size);
  return true;
}
