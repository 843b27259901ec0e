/**
 * `strata adopt`: a line for each object, a summary, or one JSON document; progress on a terminal. Exit codes: 0
 * everything came or was here, 1 something was skipped, 2 nothing could be adopted, 130 interrupted.
 */
import { type AdoptReport, type Item, isComplete, type Told } from "../adopt/report.ts";
import { errorMessage } from "../base/errors.ts";
import { humanSize } from "../base/size.ts";
import { defaultDataRoot, defaultExecRoot } from "../engine.ts";

type Flags = {
  readonly dataRoot?: string;
  readonly execRoot?: string;
  readonly storageDriver?: string;
  readonly fromDriver?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
};

/** Adopts, prints, and sets the exit code. */
export async function runAdopt(from: string, flags: Flags): Promise<void> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort(new Error("interrupted: what came is whole, run it again for the rest"));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
  try {
    const { adoptDockerRoot } = await import("../adopt/adopt.ts");
    const screen = new Screen(flags.json === true);
    const report = await adoptDockerRoot({
      from,
      fromDriver: flags.fromDriver,
      dataRoot: flags.dataRoot ?? defaultDataRoot,
      execRoot: flags.execRoot ?? defaultExecRoot,
      storageDriver: flags.storageDriver,
      dryRun: flags.dryRun === true,
      tell: (told) => screen.tell(told),
      signal: stopping.signal,
    });
    process.stdout.write(flags.json === true ? `${JSON.stringify(report, null, 2)}\n` : summary(report));
    process.exitCode = isComplete(report) ? 0 : 1;
  } catch (error) {
    process.stderr.write(`strata: cannot adopt: ${plain(errorMessage(error))}\n`);
    process.exitCode = stopping.signal.aborted ? 130 : 2;
  }
}

/** Names that strangers chose must not steer a terminal. */
const plain = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");

const refreshMs = 100;

/** Lines of objects on the output, and on a terminal what is under way. */
class Screen {
  readonly #json: boolean;
  readonly #live = process.stderr.isTTY === true;
  #now = "";
  #bytes = 0;
  #shownAt = 0;

  constructor(json: boolean) {
    this.#json = json;
    // A reader that has seen enough does not end the work.
    process.stdout.on("error", () => undefined);
  }

  tell(told: Told): void {
    if (told.event === "begin") {
      this.#now = `${told.kind} ${plain(told.name)}`;
      this.#bytes = 0;
      this.#show(true);
    } else if (told.event === "bytes") {
      this.#bytes += told.count;
      this.#show(false);
    } else {
      if (this.#live) process.stderr.write("\r\x1b[K");
      if (!this.#json) process.stdout.write(itemText(told.item));
    }
  }

  #show(always: boolean): void {
    if (!this.#live || (!always && performance.now() - this.#shownAt < refreshMs)) return;
    this.#shownAt = performance.now();
    const line = `${this.#now}: ${humanSize(this.#bytes)}`;
    process.stderr.write(`\r\x1b[K${line.slice(0, Math.max((process.stderr.columns || 80) - 1, 20))}`);
  }
}

const words: Readonly<Record<Item["outcome"], string>> = {
  adopted: "adopted",
  present: "here already",
  planned: "would come",
  skipped: "skipped",
};

function itemText({ kind, name, outcome, bytes, reason, notes = [] }: Item): string {
  const size = outcome === "adopted" || outcome === "planned" ? ` (${humanSize(bytes)})` : "";
  const why = reason === undefined ? [] : [reason];
  const more = [...why, ...notes].map((line) => `    ${plain(line)}\n`).join("");
  return `${words[outcome]}: ${kind} ${plain(name)}${size}\n${more}`;
}

function summary({ items, problems, source, target, dryRun }: AdoptReport): string {
  const count = (outcome: Item["outcome"]): number => items.filter((item) => item.outcome === outcome).length;
  const bytes = items.reduce((sum, item) => sum + item.bytes, 0);
  const came = dryRun ? `${count("planned")} would come` : `${count("adopted")} adopted`;
  const rest = `${count("present")} here already, ${count("skipped")} skipped`;
  const ways = `from ${source.path} (${source.driver}) to ${target.path} (${target.driver})`;
  return [
    ...problems.map((problem) => `problem: ${plain(problem)}\n`),
    `${plain(ways)}: ${came} (${humanSize(bytes)}), ${rest}\n`,
  ].join("");
}
