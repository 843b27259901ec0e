/** `strata volume drivers`: every volume driver, what it can, and what this machine lacks for it. */
import type { Command } from "commander";
import * as v from "valibot";
import { looseObject } from "../base/shape.ts";
import { openClient } from "../client/engine-client.ts";
import { hostOption } from "./host-option.ts";
import { tableText } from "./table.ts";

const answer = looseObject({
  Drivers: v.array(
    looseObject({
      Name: v.string(),
      Scope: v.string(),
      Size: v.boolean(),
      Snapshots: v.boolean(),
      Plugin: v.boolean(),
      Missing: v.string(),
    }),
  ),
});

type Drivers = v.InferOutput<typeof answer>["Drivers"];

/** Adds the command. */
export function volumeDriversCommand(volume: Command): void {
  volume
    .command("drivers")
    .description("which volume drivers there are, what they can, and what this machine lacks for them")
    .option("--json", "print one JSON document")
    .option(...hostOption)
    .action(async ({ host, json }: { readonly host?: string; readonly json?: boolean }) => {
      const { Drivers: drivers } = v.parse(answer, await openClient(host).get("/strata/volume-drivers"));
      process.stdout.write(json === true ? `${JSON.stringify(drivers, null, 2)}\n` : driversText(drivers));
    });
}

const yes = (is: boolean): string => (is ? "yes" : "-");

function driversText(drivers: Drivers): string {
  const rows = drivers.map(({ Name, Scope, Size, Snapshots, Plugin, Missing }) => [
    Name,
    Scope,
    yes(Size),
    yes(Snapshots),
    Missing === "" ? (Plugin ? "plugin" : "ready") : Missing,
  ]);
  return tableText(["NAME", "SCOPE", "SIZE", "SNAPSHOTS", "STATE"], rows);
}
