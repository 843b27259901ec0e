/** Unmounting a written filesystem, in a pool worker: the kernel syncs what was written, which may take its time. */
import { unmountAll } from "../host/mount.ts";

export function unmountTask({ path }: { readonly path: string }): void {
  unmountAll(path);
}
