/** The bar of `strata migrate` on a terminal: one line, drawn again and never longer than the terminal is wide. */
import { humanSize } from "../base/size.ts";
import type { Progress } from "../migrate/migration.ts";

const fullWidth = 24;
/** Below this a bar says nothing. */
const leastWidth = 4;

/** What is drawn on a terminal of so many columns; the last one stays free, as some terminals wrap there. */
export function barLine({ what, name, done, total, bytes, totalBytes }: Progress, columns: number): string {
  const part = what === "layer" ? bytes / Math.max(totalBytes, 1) : done / Math.max(total, 1);
  const amount = what === "layer" ? ` ${humanSize(bytes)} of ${humanSize(totalBytes)}` : "";
  const counted = `${what} ${Math.min(done + 1, total)}/${total}${amount}`;
  const room = columns - 1;
  const width = Math.min(fullWidth, room - counted.length - "[] ".length);
  const full = Math.round(Math.min(Math.max(part, 0), 1) * width);
  const bar = width < leastWidth ? "" : `[${"=".repeat(full)}${" ".repeat(width - full)}] `;
  const line = `${bar}${counted} ${shortName(name)}`;
  return line.length <= room ? line : `${bar}${counted}`.slice(0, Math.max(room, 0));
}

export const shortName = (name: string): string => name.replace(/^sha256:/, "").slice(0, 12);
