/** Local volumes of a FUSE server that never answers, for whoever makes volumes in another process. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HungFuse } from "../../src/host/hung-fuse.fixture.ts";

/**
 * The options of such a volume of the driver local. What mount(8) calls for their type, a program in `folder`, which is
 * made, asks the one server, and ends when that has mounted.
 */
export async function hungOptions(
  fuse: HungFuse,
  folder: string,
): Promise<Readonly<Record<"type" | "device" | "o", string>>> {
  mkdirSync(folder);
  const program = join(folder, "hung");
  const script = `#!/bin/sh
echo "$2" >${folder}/$$.new; mv ${folder}/$$.new ${folder}/$$.ask
until grep -q " $2 fuse\\| $2 .* fuse" /proc/self/mountinfo; do sleep 0.05; done
`;
  writeFileSync(program, script);
  chmodSync(program, 0o755);
  await fuse.serveAsks(folder);
  return { type: "fuse", device: `${program}#x`, o: "ro" };
}
