/** What a volume must hold, file for file. */
import { createHash } from "node:crypto";
import type { Member } from "../support/tar-bytes.ts";

/** Path below `folder` -> digest, of regular files. */
export function sha256(files: readonly Member[], folder: string): ReadonlyMap<string, string> {
  return new Map(
    files.map(({ name, content = "" }) => [
      name.slice(folder.length),
      createHash("sha256").update(content).digest("hex"),
    ]),
  );
}

/** What `digest` of the agent printed, compared: every file is there and whole. */
export function missingFrom(text: string, expected: ReadonlyMap<string, string>): string[] {
  const found = new Map(text.split("\n").map((line) => [line.slice(0, -65), line.slice(-64)]));
  return [...expected].flatMap(([path, digest]) => {
    const there = found.get(path);
    if (there === undefined) return [`${path} is missing`];
    return there === digest ? [] : [`${path} differs`];
  });
}
