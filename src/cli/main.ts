/** The `strata` command. Subcommands are loaded when they are asked for, so that none pays for another. */
import { Command, CommanderError } from "commander";
import { errorMessage } from "../base/errors.ts";
import { engineVersion } from "../base/version.ts";
import { collect, daemonOptions } from "./daemon-options.ts";
import { forkCommand } from "./fork-command.ts";
import { clientCommands } from "./system-commands.ts";
import { volumeCommands } from "./volume-commands.ts";
import { volumePluginCommand } from "./volume-plugin-command.ts";

const program = new Command("strata")
  .description("Docker's layered storage as an engine: images, containers and volumes over storage and volume drivers.")
  .version(`strata ${engineVersion}`)
  .exitOverride()
  .showHelpAfterError("(strata COMMAND --help tells what a command takes)");

const daemon = program.command("daemon").description("run the engine and serve the Docker Engine API");
daemonOptions(daemon).action(async (flags: Record<string, unknown>) => {
  const { runDaemon } = await import("./daemon.ts");
  await runDaemon(flags);
});
program
  .command("check")
  .description("compare the records of a data root with its disk and verify every layer; no daemon may run on it")
  .option("--data-root <path>", "the data root (default /var/lib/strata)")
  .option("--exec-root <path>", "where views are mounted meanwhile (default /run/strata)")
  .option(
    "-s, --storage-driver <name>",
    "look at this storage driver (or driver module) only (default: all that have data)",
  )
  .option("--repair", "remove what is incomplete or unreferenced, mend what can be mended")
  .option("--force", "with --repair: also remove images that are lost and layers of unknown containers")
  .option("--json", "print one JSON document")
  .action(async (flags: Record<string, unknown>, command: Command) => {
    const { runCheck } = await import("./check-command.ts");
    await runCheck(flags, command);
  });
program
  .command("adopt")
  .description(
    "take over images, stopped containers and local volumes from the data root of a stock dockerd, which is only read",
  )
  .argument("<docker-root>", "dockerd's data root, often /var/lib/docker; no dockerd may run on it")
  .option("--data-root <path>", "the data root that adopts (default /var/lib/strata); no daemon may run on it")
  .option("--exec-root <path>", "where views are mounted meanwhile (default /run/strata)")
  .option(
    "-s, --storage-driver <name>",
    "the storage driver that adopts (default: the one that has data, or the first that works)",
  )
  .option("--from-driver <name>", "dockerd's storage driver, where its data root has data of several")
  .option("--dry-run", "tell what would come, and change nothing")
  .option("--json", "print one JSON document")
  .action(async (from: string, flags: Record<string, unknown>) => {
    const { runAdopt } = await import("./adopt-command.ts");
    await runAdopt(from, flags);
  });
program
  .command("migrate")
  .description("move images and containers to another storage driver; no daemon may run on the data root")
  .requiredOption("--to <driver>", "the storage driver to move to")
  .option("--from <driver>", "the one to move from (default: the one in use)")
  .option("--data-root <path>", "the data root (default /var/lib/strata)")
  .option("--storage-opt <key=value>", "option of the driver to move to; repeatable", collect)
  .option("--from-storage-opt <key=value>", "option of the driver to move from; repeatable", collect)
  .option("--remove-old", "remove the old data once everything has been moved, also after an earlier migration")
  .option("--replace", "remove layers that the driver to move to has of the same containers")
  .option("--ignore-storage-opt", "move containers whose storage options the new driver cannot keep")
  .option("--json", "print one JSON document")
  .action(async (flags: { readonly to: string }) => {
    const { runMigrate } = await import("./migrate-command.ts");
    await runMigrate(flags);
  });
forkCommand(program);
volumePluginCommand(program);
volumeCommands(program);
clientCommands(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else {
    process.stderr.write(`strata: ${errorMessage(error)}\n`);
    process.exitCode = 1;
  }
}
