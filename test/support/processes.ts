/** What runs on the machine: for a scratch folder, and all of it. */
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

/** Ends what a test that failed left running: shims and monitors name the folder, their containers do not. */
export function endProcesses(path: string): void {
  for (const { pid } of processesBelow(path))
    try {
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
      for (const each of [...children.filter((child) => child !== "").map(Number), pid]) process.kill(each, "SIGKILL");
    } catch {
      // ended meanwhile
    }
}

/** Command lines and environments of every process. */
export function processTexts(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => ["cmdline", "environ"].map((file) => textOf(`/proc/${pid}/${file}`)));
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // It ended.
    return "";
  }
}
