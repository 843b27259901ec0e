/**
 * Everything that is decided before a container is made: its image, its merged config, its mounts. A plan touches
 * nothing; it throws what Docker would say.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { EngineError, isError } from "../base/errors.ts";
import type { RunConfig } from "../base/oci.ts";
import type { Image } from "../image/store.ts";
import { resolveCapabilities } from "../runtime/capabilities.ts";
import { resolveAppArmor, resolveSecurity, wantsNoNewPrivileges } from "../runtime/security.ts";
import { mergeMountPoints } from "../volume/merge-mounts.ts";
import { parseVolumesFrom } from "../volume/mount-mode.ts";
import { type MountDraft, missingSource } from "../volume/parse-mounts.ts";
import { checkHostConfig, checkRunConfig } from "./check-config.ts";
import { checkTexts } from "./check-text.ts";
import { checkNames, configPaths, machineName } from "./config-files.ts";
import type { HostConfig, NewContainer } from "./container.ts";
import { type Context, now, timestamp } from "./context.ts";
import { commandLine, mergeRunConfig } from "./merge-config.ts";
import type { ContainerRecord } from "./record.ts";
import { isOnHost } from "./remote.ts";

export type Plan = {
  readonly image: Image | undefined;
  /** Without its name and its mounts, which `create` fills in. */
  readonly record: ContainerRecord;
  readonly drafts: readonly MountDraft[];
  /** Targets of anonymous volumes that the config asks for: a file of the image there is an error. */
  readonly volumeTargets: ReadonlySet<string>;
};

/** Throws invalid_argument, unsupported, conflict; not_found for the image and for nothing else. */
export async function planContainer(context: Context, request: NewContainer): Promise<Plan> {
  const imageName = request.config.Image ?? "";
  const image = imageName === "" ? undefined : context.images.get(imageName);
  return onlyImageMissing(() => planWith(context, request, image));
}

/** To the client of a create not_found says that the image is missing, and it goes to fetch it: nothing else may say so. */
export async function onlyImageMissing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isError(cause, "not_found")) throw new EngineError("invalid_argument", cause.message, { cause });
    throw cause;
  }
}

async function planWith(context: Context, request: NewContainer, image: Image | undefined): Promise<Plan> {
  const config = mergeRunConfig(image?.config.config ?? {}, request.config);
  checkTexts(config, request.hostConfig);
  checkRunConfig(config);
  checkHostConfig(request.hostConfig);
  checkNames(request.hostConfig);
  await checkRights(request.hostConfig);
  const hostConfig = resolveJoins(context, request);
  const targets = Object.keys(config.Volumes ?? {});
  const drafts = mergeMountPoints({
    binds: hostConfig.Binds ?? [],
    mounts: hostConfig.Mounts ?? [],
    tmpfs: hostConfig.Tmpfs ?? {},
    volumes: targets,
    from: (hostConfig.VolumesFrom ?? []).map((spec) => volumesFrom(context, spec)),
    volumeDriver: hostConfig.VolumeDriver || undefined,
  });
  await checkSources(context, drafts);
  const anonymous = drafts.filter(({ point }) => point.anonymous && targets.includes(point.destination));
  const volumeTargets = new Set(anonymous.map(({ point }) => point.destination));
  return { image, record: newRecord(context, { request, config, hostConfig, image }), drafts, volumeTargets };
}

/** Capabilities and security options that cannot be: told at create, not at the first start. */
async function checkRights(host: HostConfig): Promise<void> {
  const held = resolveCapabilities({ capAdd: host.CapAdd ?? [], capDrop: host.CapDrop ?? [] });
  const options = host.SecurityOpt ?? [];
  if (options.length === 0) return;
  wantsNoNewPrivileges(options);
  await resolveAppArmor(options, host.Privileged === true);
  await resolveSecurity(options, host.Privileged === true, held);
}

/** Modes that name another container name it by id from here on. */
function resolveJoins(context: Context, { hostConfig, config }: NewContainer): HostConfig {
  const resolve = (mode: string | undefined): string | undefined => {
    if (!mode?.startsWith("container:")) return mode;
    return `container:${context.entries.get(mode.slice("container:".length)).id}`;
  };
  const network = resolve(hostConfig.NetworkMode);
  const pid = resolve(hostConfig.PidMode);
  if (network?.startsWith("container:") && config.Hostname)
    throw new EngineError("invalid_argument", "conflicting options: hostname and the network mode");
  return {
    ...hostConfig,
    ...(network === undefined ? {} : { NetworkMode: network }),
    ...(pid === undefined ? {} : { PidMode: pid }),
  };
}

function volumesFrom(context: Context, spec: string): { mounts: ContainerRecord["mounts"]; readOnly: boolean } {
  const { container, readOnly } = parseVolumesFrom(spec);
  return { mounts: context.entries.get(container).record.mounts, readOnly };
}

async function checkSources(context: Context, drafts: readonly MountDraft[]): Promise<void> {
  for (const { point, createSource } of drafts)
    if (point.type === "bind" && !createSource && !(await isOnHost(context, point.source))) throw missingSource(point);
}

type Ingredients = {
  readonly request: NewContainer;
  readonly config: RunConfig;
  readonly hostConfig: HostConfig;
  readonly image: Image | undefined;
};

function newRecord(context: Context, { request, config, hostConfig, image }: Ingredients): ContainerRecord {
  const id = randomBytes(32).toString("hex");
  const directory = join(context.root, "containers", id);
  const sharesName = hostConfig.NetworkMode === "host" || hostConfig.UTSMode === "host";
  return {
    id,
    name: "",
    created: timestamp(now()),
    imageId: image?.id,
    image: request.config.Image ?? "",
    ...commandLine(config),
    config: { ...config, Hostname: config.Hostname || (sharesName ? machineName() : id.slice(0, 12)) },
    hostConfig: { ...hostConfig, ShmSize: hostConfig.ShmSize || 64 * 1024 * 1024 },
    mounts: [],
    networks: request.networks,
    logPath: hostConfig.LogConfig?.Type === "none" ? "" : join(directory, `${id}.log`),
    ...configPaths(directory),
  };
}
