/** The flags of `strata daemon`: dockerd's, where they mean the same. */
import type { Command } from "commander";

/** For options that may be given again. */
export const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  value,
];

/** The volume plugin has it too. */
export const volumeDeadlineOption = [
  "--volume-deadline <seconds>",
  "how long a server of a volume may take for one answer (default 10)",
] as const;

/** Adds the flags; none has a default here, so that what was given can be told from what was not. */
export function daemonOptions(command: Command): Command {
  return command
    .option("--data-root <path>", "where images, containers and volumes are kept (default /var/lib/strata)")
    .option("--exec-root <path>", "where the state of running containers is kept (default /run/strata)")
    .option("-H, --host <address>", "where to listen; repeatable (default unix:///run/strata/strata.sock)", collect)
    .option("-p, --pidfile <path>", "write the daemon's process id to this file")
    .option(
      "-s, --storage-driver <name>",
      "storage driver, or the path of a driver module (default: the one in use, else the first that works)",
    )
    .option("--storage-opt <key=value>", "option of the storage driver; repeatable", collect)
    .option(
      "--plugin-dir <path>",
      "where volume plugins are looked for; repeatable (default: Docker's folders)",
      collect,
    )
    .option(...volumeDeadlineOption)
    .option("--config-file <path>", "configuration file (default /etc/strata/daemon.json)")
    .option("-D, --debug", "log everything")
    .option("-l, --log-level <level>", "debug, info, warn, error or fatal (default info)")
    .option("--label <key=value>", "label of the engine, shown by docker info; repeatable", collect)
    .option("--insecure-registry <host>", "registry that may be reached without TLS; repeatable", collect);
}
