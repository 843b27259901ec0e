/** Lines with a bar for a terminal: drawn over one another, and never longer than the terminal is wide. */
import { humanSize } from "../base/size.ts";
import type { Progress } from "../migrate/migration.ts";

const fullWidth = 24;
/** Below this a bar says nothing. */
const leastWidth = 4;

/** What is drawn for a migration on a terminal of so many columns. */
export function barLine({ what, name, done, total, bytes, totalBytes }: Progress, columns: number): string {
  const part = what === "layer" ? bytes / Math.max(totalBytes, 1) : done / Math.max(total, 1);
  const amount = what === "layer" ? ` ${humanSize(bytes)} of ${humanSize(totalBytes)}` : "";
  const text = `${what} ${Math.min(done + 1, total)}/${total}${amount}`;
  return fittedLine({ part, text, more: ` ${shortName(name)}` }, columns);
}

/** `part` of 1 as a bar, where that is known; `more` is left out where there is no room for it. */
export type Line = { readonly part: number | undefined; readonly text: string; readonly more: string };

/** The last column stays free, as some terminals wrap there. */
export function fittedLine({ part, text, more }: Line, columns: number): string {
  const room = columns - 1;
  const width = Math.min(fullWidth, room - text.length - "[] ".length);
  const full = Math.round(Math.min(Math.max(part ?? 0, 0), 1) * width);
  const bar = part === undefined || width < leastWidth ? "" : `[${"=".repeat(full)}${" ".repeat(width - full)}] `;
  const line = `${bar}${text}${more}`;
  return line.length <= room ? line : `${bar}${text}`.slice(0, Math.max(room, 0));
}

export const shortName = (name: string): string => name.replace(/^sha256:/, "").slice(0, 12);
