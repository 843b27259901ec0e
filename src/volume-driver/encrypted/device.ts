/** What is in a directory that shall hold encrypted files. A child looks: the directory may be on a disk that hangs. */
import { EngineError } from "../../base/errors.ts";
import { runProgram } from "../../host/program.ts";

const deadline = 10_000;

/** `empty`: nothing was begun there. Throws invalid_argument for a directory with other things, or none. */
export async function lookAtDevice(device: string): Promise<"empty" | "encrypted"> {
  const found = await lines(device, [
    "-maxdepth",
    "0",
    "-type",
    "d",
    "-printf",
    "directory\\n",
    "-empty",
    "-printf",
    "empty\\n",
  ]);
  if (found.length === 0) throw refused(device, "is no directory; make it first");
  if (found.includes("empty")) return "empty";
  const begun = await lines(device, ["-maxdepth", "1", "-name", "gocryptfs.conf", "-printf", "%f\\n"]);
  if (begun.length > 0) return "encrypted";
  throw refused(device, "is not empty, and holds no files of gocryptfs");
}

async function lines(device: string, expression: readonly string[]): Promise<readonly string[]> {
  const { code, stdout } = await runProgram("find", ["-H", device, ...expression], { deadline });
  return code === 0 ? stdout.split("\n").filter((line) => line !== "") : [];
}

const refused = (device: string, words: string): EngineError =>
  new EngineError("invalid_argument", `the directory ${device}, which the option device names, ${words}`);
