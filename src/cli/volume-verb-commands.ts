/** `strata volume clone | snapshot | rename | ...`: arguments and options; the work is loaded when it is asked for. */
import type { Command } from "commander";
import { collect } from "./daemon-options.ts";
import { hostOption } from "./host-option.ts";

const json = ["--json", "print one JSON document"] as const;
const noPause = ["--no-pause", "do not let containers stand still for the last moment of a copy"] as const;
const option = ["-o, --opt <key=value>", "option of the driver; repeatable", collect] as const;

/** Adds the commands. */
export function volumeVerbCommands(volume: Command): void {
  const verbs = () => import("./volume-verbs.ts");
  const add = (name: string, description: string): Command =>
    volume
      .command(name)
      .description(description)
      .option(...hostOption);
  add("clone", "make a new volume with the content of a volume, or of one of its snapshots")
    .argument("<source>", "VOLUME or VOLUME@SNAPSHOT")
    .argument("<name>", "the new volume")
    .option("-d, --driver <name>", "its driver (default: the source's)")
    .option(...option)
    .option("--label <key=value>", "its labels; repeatable", collect)
    .option(...noPause)
    .option(...json)
    .action(async (source: string, name: string, flags) => (await verbs()).clone(source, name, flags));
  snapshotCommands(volume);
  transferCommands(add);
  add("migrate", "move a volume to another driver; containers that run with it are stopped for the end of it")
    .argument("<volume>")
    .option("--to <driver>", "the driver to move to")
    .option(...option)
    .option("--cancel", "take back what a migration that was killed has copied")
    .option(...json)
    .action(async (name: string, flags) => (await verbs()).migrate(name, flags));
  add("rename", "give a volume that no container refers to another name")
    .argument("<volume>")
    .argument("<name>")
    .action(async (from: string, to: string, flags) => (await verbs()).rename(from, to, flags));
  add("update", "change options of a volume that is not in use; -o key= takes one away")
    .argument("<volume>")
    .requiredOption(...option)
    .action(async (name: string, flags) => (await verbs()).update(name, flags));
  add("resize", "change the size of a volume, also while it is used")
    .argument("<size>", "10g, 512m, ...")
    .argument("<volume>")
    .action(async (size: string, name: string, flags) => (await verbs()).resize(size, name, flags));
  add("du", "how much is in volumes: exact, counted now")
    .argument("[volume...]", "all unless given")
    .option("--timeout <seconds>", "for each volume (default 30 for what a server or a program serves, else none)")
    .option(...json)
    .action(async (names: readonly string[], flags) => (await verbs()).du(names, flags));
  add("who", "which containers use a volume, and when it was last used")
    .argument("[volume...]", "all unless given")
    .option(...json)
    .action(async (names: readonly string[], flags) => (await verbs()).who(names, flags));
}

function transferCommands(add: (name: string, description: string) => Command): void {
  const verbs = () => import("./volume-transfer.ts");
  add("export", "write a volume as a tar that proves itself whole")
    .argument("<source>", "VOLUME or VOLUME@SNAPSHOT")
    .option("-o, --output <file>", "the file (default: stdout); a name that ends in .zst is compressed")
    .option("--compress <how>", "none or zst (default: by the file's name)")
    .option("--pause", "containers that use it stand still until all of it is written")
    .action(async (source: string, flags) => (await verbs()).exportVolume(source, flags));
  add("import", "make a new volume from an export: whole or not at all")
    .argument("<file>", "the export, compressed or not; - is stdin")
    .argument("<name>", "the new volume")
    .option("-d, --driver <name>", "its driver (default: local)")
    .option(...option)
    .option("--label <key=value>", "its labels; repeatable", collect)
    .option("--plain", "the file is a tar of other origin, which nothing proves whole")
    .option(...json)
    .action(async (file: string, name: string, flags) => (await verbs()).importVolume(file, name, flags));
}

function snapshotCommands(volume: Command): void {
  const verbs = () => import("./volume-snapshots.ts");
  const snapshot = volume.command("snapshot").description("moments of a volume, to go back to or to clone");
  const add = (name: string, description: string): Command =>
    snapshot
      .command(name)
      .description(description)
      .option(...hostOption);
  add("create", "keep a volume's content as it is now")
    .argument("<volume>")
    .argument("[name]", "of the snapshot (default: the time)")
    .option(...noPause)
    .option(...json)
    .action(async (name: string, given: string | undefined, flags) => (await verbs()).create(name, given, flags));
  add("ls", "list a volume's snapshots, the oldest first")
    .argument("<volume>")
    .option(...json)
    .action(async (name: string, flags) => (await verbs()).list(name, flags));
  add("rm", "remove snapshots of a volume")
    .argument("<volume>")
    .argument("<name...>")
    .action(async (name: string, names: readonly string[], flags) => (await verbs()).remove(name, names, flags));
  add("restore", "let a volume's content be that of a snapshot again; what came after it is lost")
    .argument("<volume>")
    .argument("<name>")
    .option(...json)
    .action(async (name: string, from: string, flags) => (await verbs()).restore(name, from, flags));
}
