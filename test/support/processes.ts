/** What runs on the machine for a scratch folder. */
import { readdirSync, readFileSync } from "node:fs";

/** Processes whose command line names the folder. */
export function processesBelow(path: string): { readonly pid: number; readonly line: string }[] {
  const found: { pid: number; line: string }[] = [];
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      if (Number(name) !== process.pid && line.includes(path)) found.push({ pid: Number(name), line });
    } catch {
      // ended meanwhile
    }
  }
  return found;
}
