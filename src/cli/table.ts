/** Tables as docker prints them: columns in capitals, three spaces between them. */

/** Cells are shown without characters that could steer a terminal. */
export function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((row) => row.map(plain));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const text = lines.map((line) => line.map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3)).join(""));
  return `${text.map((line) => line.trimEnd()).join("\n")}\n`;
}

const plain = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
