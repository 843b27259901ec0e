/** `strata volume ...`: what docker has no word for. */
import type { Command } from "commander";
import { volumeDriversCommand } from "./volume-drivers-command.ts";
import { volumeVerbCommands } from "./volume-verb-commands.ts";

/** Adds the commands. */
export function volumeCommands(program: Command): void {
  const volume = program.command("volume").description("work with volumes and volume drivers beyond docker's commands");
  volumeDriversCommand(volume);
  volumeVerbCommands(volume);
}
