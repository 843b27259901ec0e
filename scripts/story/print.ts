/** Words and tables on the terminal. Figures are decimal units, as docker prints them. */

const colour = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
const paint = (code: string, text: string): string => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);

export const say = (text = ""): void => void process.stdout.write(`${text}\n`);
export const title = (text: string): void => say(`\n${paint("1;36", text)}`);
export const shell = (text: string): void => say(paint("2", `  $ ${text}`));

/** 524288 -> "524kB": three significant digits, as docker prints sizes. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${Number(value.toPrecision(3))}${units[unit] ?? ""}`;
}

/** Columns as wide as their widest cell. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("   ")}`.trimEnd();
  say(paint("2", line(head)));
  for (const row of rows) say(line(row));
}
