/** `strata volume export | import`: volumes as files and streams. A file is there whole, on the disk, or not at all. */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import * as v from "valibot";
import { EngineError, systemCode } from "../base/errors.ts";
import { looseObject } from "../base/shape.ts";
import { humanSize } from "../base/size.ts";
import { openClient } from "../client/engine-client.ts";
import { syncDirectory } from "../host/durable.ts";
import { keyValues } from "./daemon-config.ts";
import { openProgress, type ProgressLine } from "./progress.ts";
import { finished, type HostFlag, type JsonFlag, pathOf, printJson, showMessage, sourceOf } from "./volume-messages.ts";

type ExportFlags = HostFlag & { readonly output?: string; readonly compress?: string; readonly pause?: boolean };

export async function exportVolume(source: string, flags: ExportFlags): Promise<void> {
  const { output } = flags;
  if (output === undefined && process.stdout.isTTY === true)
    throw new EngineError(
      "invalid_argument",
      "a tar is nothing for a terminal: name a file with -o, or redirect stdout",
    );
  const { volume, snapshot } = sourceOf(source);
  const compress = flags.compress ?? (/\.zstd?$/.test(output ?? "") ? "zst" : "none");
  const query = new URLSearchParams({ compress, snapshot, pause: flags.pause === true ? "1" : "0", progress: "1" });
  const client = openClient(flags.host);
  const total = compress === "none" && process.stderr.isTTY === true ? totalOf(client, volume) : undefined;
  const line = openProgress();
  const answer = client.bytes(pathOf(volume, `export?${query}`), (message) => showMessage(message, line));
  const bytes = shown(answer, line, total);
  if (output === undefined) await toStdout(bytes);
  else await toFile(bytes, output);
}

/** About how long the tar will be, once that is known. */
function totalOf(client: ReturnType<typeof openClient>, volume: string): { bytes: number | undefined } {
  const total: { bytes: number | undefined } = { bytes: undefined };
  client.get(pathOf(volume, "usage"), { patient: true }).then(
    (answer) => {
      const size = v.safeParse(looseObject({ Allocated: v.number() }), answer);
      if (size.success && size.output.Allocated >= 0) total.bytes = size.output.Allocated;
    },
    () => undefined,
  );
  return total;
}

async function* shown(
  bytes: AsyncIterable<Uint8Array>,
  line: ProgressLine,
  total: { readonly bytes: number | undefined } | undefined,
): AsyncGenerator<Uint8Array, void> {
  let sofar = 0;
  try {
    for await (const chunk of bytes) {
      yield chunk;
      sofar += chunk.length;
      line.tell({ step: "exporting", bytes: sofar, totalBytes: total?.bytes });
    }
  } finally {
    line.end();
  }
}

/** A reader that goes away is told of, for what it has is not whole. */
async function toStdout(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const { promise: failed, reject } = Promise.withResolvers<never>();
  process.stdout.on("error", reject);
  failed.catch(() => undefined);
  for await (const chunk of bytes)
    if (!process.stdout.write(chunk)) await Promise.race([once(process.stdout, "drain"), failed]);
  await Promise.race([new Promise<void>((resolve) => process.stdout.write("", () => resolve())), failed]);
}

async function toFile(bytes: AsyncIterable<Uint8Array>, path: string): Promise<void> {
  const part = `${path}.part`;
  const file = await open(part, "wx", 0o600).catch((error: unknown) => {
    if (systemCode(error) !== "EEXIST") throw error;
    throw new EngineError("conflict", `${part} is there: another export writes it, or one was killed; remove it then`);
  });
  let written = 0;
  try {
    try {
      for await (const chunk of bytes) {
        for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at)).bytesWritten;
        written += chunk.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
  process.stderr.write(`wrote ${humanSize(written)} to ${path}\n`);
}

type ImportFlags = HostFlag &
  JsonFlag & {
    readonly driver?: string;
    readonly opt?: readonly string[];
    readonly label?: readonly string[];
    readonly plain?: boolean;
  };

const imported = looseObject({ Volume: looseObject({ Name: v.string() }), Entries: v.number(), Bytes: v.number() });

export async function importVolume(file: string, name: string, flags: ImportFlags): Promise<void> {
  const { driver, opt, label, plain } = flags;
  const query = new URLSearchParams({
    ...(driver === undefined ? {} : { driver }),
    ...(opt === undefined ? {} : { opts: JSON.stringify(keyValues(opt)) }),
    ...(label === undefined ? {} : { labels: JSON.stringify(keyValues(label)) }),
    ...(plain === true ? { plain: "1" } : {}),
  });
  const length = file === "-" ? undefined : (await stat(file)).size;
  const archive = file === "-" ? process.stdin : createReadStream(file, { highWaterMark: 1 << 20 });
  const result = await importing().finally(() => archive.destroy());
  process.stderr.write(`imported ${result.Entries} files and directories, ${humanSize(result.Bytes)}\n`);
  if (flags.json === true) printJson(result);
  else process.stdout.write(`${result.Volume.Name}\n`);

  function importing(): Promise<v.InferOutput<typeof imported>> {
    const messages = openClient(flags.host).messages(pathOf(name, `import?${query}`), archive, length);
    return finished(messages, imported);
  }
}
