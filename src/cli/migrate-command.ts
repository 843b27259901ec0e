/**
 * `strata migrate`: a bar on a terminal, a line for each layer and container elsewhere, and at the end what was moved, or
 * one JSON document with `--json`. Exit codes: 0 moved, 1 not moved.
 */
import { humanSize } from "../base/size.ts";
import { defaultDataRoot } from "../engine.ts";
import type { MigrateOptions, MigrateReport, Progress } from "../migrate/migration.ts";
import { keyValues } from "./daemon-config.ts";
import { barLine, shortName } from "./progress-bar.ts";

type Flags = {
  readonly to: string;
  readonly from?: string;
  readonly dataRoot?: string;
  readonly storageOpt?: readonly string[];
  readonly fromStorageOpt?: readonly string[];
  readonly removeOld?: boolean;
  readonly replace?: boolean;
  readonly ignoreStorageOpt?: boolean;
  readonly json?: boolean;
};

export async function runMigrate(flags: Flags): Promise<void> {
  const { migrateDataRoot } = await import("../migrate/migrate.ts");
  const bar = process.stderr.isTTY === true ? drawBar() : tellLines();
  const report = await moved();
  for (const warning of report.warnings) process.stderr.write(`warning: ${warning}\n`);
  process.stdout.write(flags.json === true ? `${JSON.stringify(report, null, 2)}\n` : text(report));

  async function moved(): Promise<MigrateReport> {
    try {
      return await migrateDataRoot(optionsOf(flags, bar));
    } finally {
      bar.end();
    }
  }
}

function optionsOf(flags: Flags, bar: Bar): MigrateOptions {
  return {
    dataRoot: flags.dataRoot ?? defaultDataRoot,
    to: flags.to,
    from: flags.from,
    storageOptions: keyValues(flags.storageOpt ?? []),
    sourceOptions: keyValues(flags.fromStorageOpt ?? []),
    removeOld: flags.removeOld === true,
    replace: flags.replace === true,
    ignoreStorageOptions: flags.ignoreStorageOpt === true,
    progress: bar.progress,
  };
}

type Bar = { readonly progress: (progress: Progress) => void; readonly end: () => void };

/** Drawn again at most ten times a second. */
function drawBar(): Bar {
  let drawn = 0;
  const draw = (line: string): void => void process.stderr.write(`\r\u001b[K${line}`);
  return {
    progress: (progress) => {
      if (performance.now() - drawn < 100) return;
      drawn = performance.now();
      draw(barLine(progress, process.stderr.columns || 80));
    },
    end: () => draw(""),
  };
}

function tellLines(): Bar {
  let last = "";
  return {
    progress: ({ what, name, done, total }) => {
      const line = `${what} ${done + 1}/${total} ${shortName(name)}\n`;
      if (line !== last) process.stderr.write(line);
      last = line;
    },
    end: () => undefined,
  };
}

function text({ from, to, layers, layersThere, containers, bytes, removed, kept }: MigrateReport): string {
  const lines =
    from === undefined
      ? [`the data are on ${to} already`]
      : [
          `moved ${layers} layers (${humanSize(bytes)}) and ${containers} containers from ${from} to ${to}; ${layersThere} layers were there already`,
          `the daemon uses ${to} from now on`,
        ];
  if (removed.length > 0) lines.push(`removed the old data of ${removed.join(", ")}`);
  for (const name of kept)
    lines.push(`the old data of ${name} are still there: strata migrate --to ${to} --remove-old removes them`);
  return `${lines.join("\n")}\n`;
}
