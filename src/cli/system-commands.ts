/** `strata version` and `strata info`: what the engine says of itself. */
import type { Command } from "commander";
import { openClient } from "../client/engine-client.ts";
import { hostOption } from "./host-option.ts";

/** Adds the commands. */
export function clientCommands(program: Command): void {
  for (const [name, path, description] of [
    ["version", "/version", "versions of the engine and of the programs it runs"],
    ["info", "/info", "what the engine holds, and on which machine"],
  ] as const) {
    program
      .command(name)
      .description(description)
      .option(...hostOption)
      .action(async ({ host }: { readonly host?: string }) => {
        const answer = await openClient(host).get(path);
        process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
      });
  }
}
