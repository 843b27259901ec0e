/**
 * For tests of containers: every store below the container service, for real, in a scratch folder, and a busybox image.
 * The caller is in a private mount namespace. Disposing removes what was made, and says so when a mount or a process was left.
 */
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { archiveTasks } from "../../src/archive/task-url.ts";
import type { ImageId } from "../../src/base/digest.ts";
import { EventBus } from "../../src/base/events.ts";
import type { RunConfig } from "../../src/base/oci.ts";
import { canonicalOf } from "../../src/base/reference.ts";
import type { ContainerService, HostConfig, NewContainer } from "../../src/container/container.ts";
import { containerSchema, openContainerService } from "../../src/container/open.ts";
import { mountTable } from "../../src/host/mount.ts";
import type { Pool } from "../../src/host/pool.ts";
import { Remote } from "../../src/host/remote.ts";
import { createPool } from "../../src/host/worker-pool.ts";
import { imageIdOf } from "../../src/image/config.ts";
import { openImageStore } from "../../src/image/open.ts";
import { imageSchema } from "../../src/image/schema.ts";
import type { ImageStore } from "../../src/image/store.ts";
import { openLayerStore } from "../../src/layer/open.ts";
import { layerSchema } from "../../src/layer/schema.ts";
import type { LayerStore } from "../../src/layer/store.ts";
import type { Database } from "../../src/metadata/database.ts";
import { openDatabase } from "../../src/metadata/open.ts";
import { openRuntime } from "../../src/runtime/open-runtime.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { overlay2 } from "../../src/storage-driver/overlay2/driver.ts";
import { openVolumeStore } from "../../src/volume/open.ts";
import { volumeSchema } from "../../src/volume/schema.ts";
import type { VolumeStore } from "../../src/volume/store.ts";
import { openVolumeDrivers } from "../../src/volume-driver/list.ts";

export type Problem = { readonly message: string; readonly error: unknown };

/** One life of the engine over a scratch folder. */
export type Engine = AsyncDisposable & {
  readonly folder: string;
  readonly database: Database;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly volumes: VolumeStore;
  readonly runtime: Runtime;
  readonly events: EventBus;
  readonly pool: Pool;
  readonly containers: ContainerService;
  /** What nobody waited for and went wrong. */
  readonly problems: readonly Problem[];
};

export async function makeFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "strata-container-"));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      assert.deepEqual(
        mountTable().filter(({ target }) => target.startsWith(path)),
        [],
        "mounts were left",
      );
      await rm(path, { recursive: true, force: true });
    },
  };
}

/** Opens everything over `folder`; a second call after disposing the first is a restart of the engine. */
export async function openEngine(folder: string, bootId = "boot-1"): Promise<Engine> {
  await using opening = new AsyncDisposableStack();
  const [root, execRoot] = [join(folder, "root"), join(folder, "exec")];
  await mkdir(root, { recursive: true });
  const schemas = [layerSchema, imageSchema, volumeSchema, containerSchema];
  const database = opening.use(await openDatabase(join(root, "meta.db"), schemas));
  const pool = opening.use(createPool());
  const events = new EventBus();
  const driver = opening.use(await overlay2.open(join(root, "overlay2"), {}, { pool }));
  const layers = opening.use(await openLayerStore({ root, execRoot, driver, database, pool }));
  const images = openImageStore({ database, layers, events });
  const drivers = await openVolumeDrivers({ root, pool });
  const volumes = await openVolumeStore({ database, drivers, pool, events });
  const runtime = opening.use(await openRuntime({ execRoot }));
  const remote = opening.use(new Remote());
  const parts = { database, layers, images, volumes, runtime, events, pool, remote };
  const problems: Problem[] = [];
  const report = (message: string, error: unknown): void => void problems.push({ message, error });
  const containers = opening.use(await openContainerService({ ...parts, root, execRoot, bootId, report }));
  const opened = opening.move();
  return { folder, ...parts, containers, problems, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

const applets = "sh cat echo sleep true ls mkdir rm touch stat id kill env printf ps head test mount".split(" ");

async function makeTree(tree: string): Promise<void> {
  for (const directory of ["bin", "etc", "tmp", "data/sub", "proc"])
    await mkdir(join(tree, directory), { recursive: true });
  await copyFile("/usr/bin/busybox", join(tree, "bin/busybox"));
  for (const name of applets) await symlink("busybox", join(tree, "bin", name));
  await writeFile(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n");
  await writeFile(join(tree, "etc/config.conf"), "as it was\n");
  await writeFile(join(tree, "data/sub/file"), "from the image\n");
}

/** Registers `busybox:latest`, with `config` added to its own. */
export async function addBusybox(engine: Engine, config: RunConfig = {}, name = "busybox"): Promise<ImageId> {
  const tree = join(engine.folder, `image-${name}`);
  await makeTree(tree);
  const task = engine.pool.stream(archiveTasks, "packTreeTask", { root: tree, path: "/", rebaseName: "" });
  const layer = await engine.layers.register(undefined, task.output);
  await task.result;
  const bytes = JSON.stringify({
    architecture: "amd64",
    os: "linux",
    config: { Env: ["PATH=/bin"], Cmd: ["sh"], ...config },
    rootfs: { type: "layers", diff_ids: [layer.diffId] },
  });
  const id = imageIdOf(bytes);
  const { images } = engine;
  await engine.layers.publish(
    [layer],
    [...images.putStatements({ id, bytes, local: true }), ...images.tagStatements(canonicalOf(name), id)],
  );
  return id;
}

/** A request as the CLI would send it. */
export function requestOf(
  command: readonly string[],
  more: { readonly name?: string; readonly config?: RunConfig; readonly hostConfig?: HostConfig } = {},
): NewContainer {
  return {
    name: more.name,
    config: { Image: "busybox", Cmd: command, ...more.config },
    hostConfig: { ...more.hostConfig },
    networks: {},
  };
}

/** `sh -c script` in a new container; its id. */
export async function createShell(
  engine: Engine,
  script: string,
  more: Parameters<typeof requestOf>[1] = {},
): Promise<string> {
  return (await engine.containers.create(requestOf(["sh", "-c", script], more))).id;
}

/** Everything a container has logged. */
export async function logOf(engine: Engine, id: string): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const texts = { stdout: "", stderr: "" };
  const all = { follow: false, stdout: true, stderr: true, timestamps: false };
  for await (const { stream, data } of engine.containers.logs(id, {
    ...all,
    tail: undefined,
    since: undefined,
    until: undefined,
  }))
    texts[stream] += Buffer.from(data).toString();
  return texts;
}

/** Creates, starts, waits, and reads the log. */
export async function runShell(
  engine: Engine,
  script: string,
  more: Parameters<typeof requestOf>[1] = {},
): Promise<{ readonly id: string; readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
  const id = await createShell(engine, script, more);
  const exit = engine.containers.wait(id, "next-exit");
  await engine.containers.start(id);
  const { exitCode } = await exit;
  return { id, exitCode, ...(await logOf(engine, id)) };
}

/** Removes every container and says what is left that should not be. */
export async function assertClean(engine: Engine): Promise<void> {
  const { containers, runtime, folder, problems } = engine;
  for (const { id } of containers.list({ all: true, filters: new Map() }))
    await containers.remove(id, { force: true, volumes: true });
  // Who waits for a removal is told when the record is gone; what the runtime keeps follows.
  for (let tries = 0; (await runtime.list()).length > 0 && tries < 200; tries++) await sleep(50);
  assert.deepEqual(await runtime.list(), [], "bundles were left");
  for (const directory of ["root/containers", "exec/volatile", "exec/trees", "exec/subpaths"]) {
    const path = join(folder, directory);
    for (let tries = 0; (await readdir(path)).length > 0 && tries < 200; tries++) await sleep(50);
    assert.deepEqual(await readdir(path), [], `${directory} is not empty`);
  }
  assert.deepEqual(problems, [], "work in the background failed");
}
