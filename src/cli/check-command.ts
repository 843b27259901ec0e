/**
 * `strata check`: what it found, as lines for people or one JSON document. Exit codes: 0 nothing wrong (or all of it
 * repaired), 1 problems, 2 could not check.
 */
import type { Command } from "commander";
import { errorMessage } from "../base/errors.ts";
import type { CheckReport } from "../check/problem.ts";
import { defaultDataRoot, defaultExecRoot } from "../engine.ts";

type Flags = {
  readonly dataRoot?: string;
  readonly execRoot?: string;
  readonly storageDriver?: string;
  readonly repair?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
};

/** Checks, prints, and sets the exit code. */
export async function runCheck(flags: Flags, command: Command): Promise<void> {
  if (flags.force === true && flags.repair !== true)
    command.error("error: --force goes with --repair", { exitCode: 2 });
  try {
    const { checkDataRoot } = await import("../check/check.ts");
    const report = await checkDataRoot({
      dataRoot: flags.dataRoot ?? defaultDataRoot,
      execRoot: flags.execRoot ?? defaultExecRoot,
      storageDriver: flags.storageDriver,
      repair: flags.repair === true,
      force: flags.force === true,
      ...(process.stderr.isTTY === true ? { progress } : {}),
    });
    process.stdout.write(flags.json === true ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
    process.exitCode = report.problems.every(({ repaired }) => repaired === true) ? 0 : 1;
  } catch (error) {
    process.stderr.write(`strata: cannot check: ${errorMessage(error)}\n`);
    process.exitCode = 2;
  }
}

function progress(done: number, total: number): void {
  process.stderr.write(`\rlayers ${done}/${total}${done === total ? "\n" : ""}`);
}

/** Names that strangers chose must not steer a terminal. */
const plain = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");

function awaiting({ trees, bytes }: CheckReport["awaitingRemoval"]): string[] {
  if (trees === 0) return [];
  const noun = trees === 1 ? "tree" : "trees";
  return [`awaiting removal: ${trees} ${noun}, ${bytes} bytes; the daemon deletes them, and --repair does`];
}

function reportText({ problems, awaitingRemoval, checked }: CheckReport): string {
  const lines = problems.flatMap(({ kind, object, detail, repair, repaired, failure }) => [
    `${kind}: ${plain(object)}`,
    `    ${plain(detail)}`,
    `    ${repaired === true ? "repaired" : "repair"}: ${plain(repair)}${failure === undefined ? "" : ` (failed: ${plain(failure)})`}`,
  ]);
  const { layers, bytes, unverified, images, containers, volumes, drivers } = checked;
  const left = problems.filter(({ repaired }) => repaired !== true).length;
  lines.push(
    `checked ${layers} layers (${bytes} bytes; ${drivers.join(", ") || "no driver"}), ${images} images, ${containers} containers, ${volumes} volumes`,
    ...awaiting(awaitingRemoval),
    ...(unverified > 0 ? [`${unverified} layers could not be verified: one below them is gone`] : []),
    problems.length === 0 ? "nothing is wrong" : `${problems.length} problems, ${problems.length - left} repaired`,
  );
  return `${lines.join("\n")}\n`;
}
