/**
 * What dockerd's zfs driver left: each layer is a dataset `<parent>/<id>`, a whole tree, with a legacy mount point below
 * `<home>/graph/<id>`. dockerd has them mounted only while it uses them, so each is mounted read-only for its turn; one
 * that is mounted already is read where it is. The parent is whatever `zfs.fsname` said; an id is never used twice.
 */
import { join } from "node:path";
import { archiveTasks } from "../archive/task-url.ts";
import { EngineError, errorMessage } from "../base/errors.ts";
import { isMountPoint } from "../host/mount.ts";
import { run } from "../host/zfs-command.ts";
import type { MountedTree } from "../layer/store.ts";
import { streamTask } from "../layer/stream-task.ts";
import type { ChangedLayer, GraphContext, GraphReader } from "./graph.ts";

export class ZfsReader implements GraphReader {
  readonly #context: GraphContext;
  #datasets: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(context: GraphContext) {
    this.#context = context;
  }

  async files(id: string): Promise<MountedTree> {
    const place = join(this.#context.home, "graph", id);
    if (isMountPoint(place)) return { path: place, [Symbol.asyncDispose]: async () => undefined };
    this.#datasets ??= listDatasets();
    const source = (await this.#datasets).get(id);
    if (source === undefined) throw new EngineError("data_loss", `its dataset ${id} is missing: import its pool`);
    return this.#context.mount([{ kind: "filesystem", type: "zfs", source, options: ["ro"] }]);
  }

  async *changes({ id, init }: ChangedLayer, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    await using base = await this.files(init);
    await using tree = await this.files(id);
    const argument = { base: base.path, tree: tree.path, exactTimes: true };
    yield* streamTask(this.#context.pool, { module: archiveTasks, name: "compareTreesTarTask", argument, signal });
  }

  async changesSize({ id, init }: ChangedLayer): Promise<number> {
    await using base = await this.files(init);
    await using tree = await this.files(id);
    const argument = { base: base.path, tree: tree.path };
    return await this.#context.pool.run<typeof argument, number>(archiveTasks, "compareTreesSizeTask", argument);
  }
}

/** The last part of each dataset's name -> the name. */
async function listDatasets(): Promise<ReadonlyMap<string, string>> {
  try {
    const names = (await run("zfs", "list", "-H", "-t", "filesystem", "-o", "name")).split("\n");
    return new Map(names.map((name) => [name.slice(name.lastIndexOf("/") + 1), name]));
  } catch (cause) {
    throw new EngineError(
      "unsupported",
      `its layers are ZFS datasets, which cannot be listed: ${errorMessage(cause)}`,
      {
        cause,
      },
    );
  }
}
