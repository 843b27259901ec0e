/** `export` and `import`: a volume as one tar that proves itself whole. */
import { longPoolFor } from "../context.ts";
import { createNewVolume } from "../create.ts";
import type { Unpacked } from "../read-volume-tar.ts";
import { ownSnapshots, snapshotOf } from "../snapshots.ts";
import type { ImportReport, VolumeVerbs, VolumeWork } from "../verbs.ts";
import type { ExportArgument, ImportArgument } from "../volume-tar-task.ts";
import { sourceOf, temporaryClone } from "./clone.ts";
import { subject, type VerbContext } from "./context.ts";

const tasks = new URL("../volume-tar-task.ts", import.meta.url);

/** The source is given back when the bytes end, or nobody reads on. */
export async function* exportVolume(
  context: VerbContext,
  ...[source, options = {}]: Parameters<VolumeVerbs["export"]>
): AsyncGenerator<Uint8Array, void> {
  using _busy = context.busy.begin(source.name, "export", { alone: false });
  await using stack = new AsyncDisposableStack();
  const { volume, path, consistent } = await stillSource(context, { source, options }, stack);
  const { signal, progress, compress = "none" } = options;
  const argument: ExportArgument = { path, volume: source.name, consistent, compress };
  const { output, result } = longPoolFor(context, volume).stream<ExportArgument, void>(
    tasks,
    "exportVolumeTask",
    argument,
    signal === undefined ? {} : { signal },
  );
  let bytes = 0;
  for await (const chunk of output) {
    yield chunk;
    bytes += chunk.length;
    progress?.({ step: "exporting", bytes });
  }
  await result;
}

type Exporting = {
  readonly source: { readonly name: string; readonly snapshot?: string | undefined };
  readonly options: VolumeWork;
};

/**
 * Where the content can be read as slowly as the client likes: a snapshot, a clone that costs nothing, or the volume itself,
 * which containers may go on to write to.
 */
async function stillSource(context: VerbContext, { source, options }: Exporting, stack: AsyncDisposableStack) {
  const volume = await subject(context, source.name);
  const pause = options.pause === true;
  // Of a clone that is made for it containers know only where blocks are shared, for as long as that takes.
  const work = { ...options, pause: true };
  if (source.snapshot !== undefined) {
    const snapshot = await snapshotOf(context, volume, source.snapshot);
    return {
      volume,
      path: (await sourceOf(context, { from: volume, snapshot, work }, stack)).source,
      consistent: true,
    };
  }
  const running = (): boolean => context.users.of(volume.name).some(({ status }) => status === "running");
  const own = running() && !pause ? await ownSnapshots(context, volume) : undefined;
  if (own !== undefined && own.cost !== "copy") {
    const path = await temporaryClone(context, { from: volume, snapshot: undefined, own, work }, stack);
    return { volume, path, consistent: true };
  }
  const { source: path } = await sourceOf(context, { from: volume, snapshot: undefined, work }, stack);
  if (pause) stack.use(await context.users.hold(volume.name, { freeze: true }));
  return { volume, path, consistent: pause || !running() };
}

export async function importVolume(
  context: VerbContext,
  ...[archive, to, work = {}]: Parameters<VolumeVerbs["import"]>
): Promise<ImportReport> {
  const { signal, progress, plain = false, totalBytes } = work;
  const total = totalBytes === undefined ? {} : { totalBytes };
  const tell = (bytes: number): void => progress?.({ step: "importing", bytes, ...total });
  const driver = await context.drivers.open(to.driver ?? "local");
  const request = { name: to.name, driver: driver.name, options: to.options ?? {}, labels: to.labels ?? {} };
  let done: Unpacked = { entries: 0, bytes: 0 };
  const fill = async (path: string): Promise<void> => {
    const place = { ...request, anonymous: false, createdAt: "", mountpoint: path, scope: "local" } as const;
    const options = { input: counted(archive, tell), ...(signal === undefined ? {} : { signal }) };
    const argument: ImportArgument = { path, plain };
    done = await longPoolFor(context, place).run(tasks, "importVolumeTask", argument, options);
  };
  const volume = await createNewVolume(context, request, { fill });
  return { volume, ...done };
}

async function* counted(bytes: AsyncIterable<Uint8Array>, tell: (sofar: number) => void): AsyncGenerator<Uint8Array> {
  let sofar = 0;
  for await (const chunk of bytes) {
    yield chunk;
    sofar += chunk.length;
    tell(sofar);
  }
}
