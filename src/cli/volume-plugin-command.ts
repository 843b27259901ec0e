/** `strata volume-plugin`: the volume drivers for a stock dockerd or podman. Its flags, and loading it when asked for. */
import type { Command } from "commander";
import { volumeDeadlineOption } from "./daemon-options.ts";

/** Adds the command. */
export function volumePluginCommand(program: Command): void {
  program
    .command("volume-plugin")
    .description("serve the volume drivers to a stock dockerd or podman, as a Docker volume plugin")
    .option("--driver <names>", "drivers to offer, by comma, the default first (default: all)")
    .option("--data-root <path>", "where the volumes are kept (default /var/lib/strata-volumes)")
    .option(
      "--socket <path>",
      "where to listen; the file's name is the plugin's (default /run/docker/plugins/strata.sock)",
    )
    .option(...volumeDeadlineOption)
    .option("-l, --log-level <level>", "debug, info, warn, error or fatal (default info)")
    .action(async (flags: VolumePluginFlags) => {
      const { runVolumePlugin } = await import("./volume-plugin.ts");
      await runVolumePlugin(flags);
    });
}

export type VolumePluginFlags = {
  readonly driver?: string;
  readonly dataRoot?: string;
  readonly socket?: string;
  readonly volumeDeadline?: string;
  readonly logLevel?: string;
};
