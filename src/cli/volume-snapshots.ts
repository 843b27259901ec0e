/** `strata volume snapshot create | ls | rm | restore`. */
import * as v from "valibot";
import { looseObject } from "../base/shape.ts";
import { humanSize } from "../base/size.ts";
import { openClient } from "../client/engine-client.ts";
import { tableText } from "./table.ts";
import { costText, finished, type HostFlag, type JsonFlag, pathOf, printJson, reportShape } from "./volume-messages.ts";

const snapshot = looseObject({
  Name: v.string(),
  CreatedAt: v.string(),
  KeptBy: v.picklist(["driver", "store"]),
  Bytes: v.number(),
});
const made = looseObject({ Snapshot: snapshot, Report: reportShape });
const restored = looseObject({ Report: reportShape });

const snapshotPath = (volume: string, name: string): string => pathOf(volume, `snapshots/${encodeURIComponent(name)}`);

export async function create(
  volume: string,
  name: string | undefined,
  flags: HostFlag & JsonFlag & { readonly pause: boolean },
): Promise<void> {
  const query = new URLSearchParams({ pause: flags.pause ? "1" : "0", ...(name === undefined ? {} : { name }) });
  const result = await finished(openClient(flags.host).messages(pathOf(volume, `snapshots?${query}`)), made);
  process.stderr.write(costText(result.Report));
  if (flags.json === true) printJson(result);
  else process.stdout.write(`${result.Snapshot.Name}\n`);
}

export async function list(volume: string, { host, json }: HostFlag & JsonFlag): Promise<void> {
  const all = v.parse(v.array(snapshot), await openClient(host).get(pathOf(volume, "snapshots")));
  if (json === true) return printJson(all);
  const rows = all.map(({ Name, CreatedAt, KeptBy, Bytes }) => [
    Name,
    CreatedAt.replace(/\.\d+Z$/, "Z"),
    KeptBy === "driver" ? "driver" : "full copy",
    Bytes < 0 ? "-" : humanSize(Bytes),
  ]);
  process.stdout.write(tableText(["SNAPSHOT", "CREATED", "KEPT AS", "SIZE"], rows));
}

export async function remove(volume: string, names: readonly string[], { host }: HostFlag): Promise<void> {
  for (const name of names) {
    await openClient(host).delete(snapshotPath(volume, name));
    process.stdout.write(`${name}\n`);
  }
}

export async function restore(volume: string, name: string, flags: HostFlag & JsonFlag): Promise<void> {
  const result = await finished(openClient(flags.host).messages(`${snapshotPath(volume, name)}/restore`), restored);
  process.stderr.write(costText(result.Report));
  if (flags.json === true) printJson(result);
  else process.stdout.write(`${volume}\n`);
}
