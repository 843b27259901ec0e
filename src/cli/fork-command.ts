/** `strata fork CONTAINER [NAME]`: a second container with the same content; prints its id, as `docker create` does. */
import type { Command } from "commander";
import { EngineError } from "../base/errors.ts";
import { openClient } from "../client/engine-client.ts";
import { hostOption } from "./host-option.ts";

/** Adds the command. */
export function forkCommand(program: Command): void {
  program
    .command("fork")
    .description("make a second container with the same config and content, as they are at this moment")
    .argument("<container>", "name or id")
    .argument("[name]", "the new container's name (default: a random one)")
    .option("--volumes <how>", "its anonymous volumes: copy (their content), new, or share", "copy")
    .option(...hostOption)
    .action(async (container: string, name: string | undefined, flags: { volumes: string; host?: string }) => {
      const query = new URLSearchParams({ volumes: flags.volumes, ...(name === undefined ? {} : { name }) });
      const path = `/containers/${encodeURIComponent(container)}/fork?${query}`;
      const answer = await openClient(flags.host).post(path);
      process.stdout.write(`${idOf(answer)}\n`);
    });
}

function idOf(answer: unknown): string {
  if (typeof answer === "object" && answer !== null && "Id" in answer) return String(answer.Id);
  throw new EngineError("internal", "the engine did not say which container it made");
}
