/** The `strata` command. Subcommands are loaded when they are asked for, so that none pays for another. */
import { Command, CommanderError } from "commander";
import { errorMessage } from "../base/errors.ts";
import { engineVersion } from "../base/version.ts";
import { daemonOptions } from "./daemon-options.ts";
import { clientCommands } from "./system-commands.ts";

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
