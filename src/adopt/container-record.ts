/**
 * dockerd's record of a container as this engine's. Nothing that was asked of a container is dropped: what is not
 * supported here stays in the record, keeps it from starting, and is told now. Changed, and told, are only the log
 * driver and its options, and an IPC mode that differs in nothing here.
 */
import { join } from "node:path";
import { EngineError, errorMessage } from "../base/errors.ts";
import type { MountPoint, MountRequest } from "../base/mount-point.ts";
import { anyMap, decodeShape } from "../base/shape.ts";
import { checkHostConfig, checkRunConfig } from "../container/check-config.ts";
import { configPaths } from "../container/config-files.ts";
import { parseContainerName } from "../container/names.ts";
import { type ContainerRecord, decodeRow, never, type SavedState } from "../container/record.ts";
import { byDepth } from "../volume/merge-mounts.ts";
import { parseMountRequest, parseTmpfs } from "../volume/parse-mounts.ts";
import type { ContainerFiles, SourceConfig, SourceMountPoint } from "./container-files.ts";

export type Converted = {
  readonly record: ContainerRecord;
  readonly state: SavedState;
  readonly notes: readonly string[];
};

type Read = Extract<ContainerFiles["read"], { ok: true }>;

export type ConvertOptions = {
  /** The engine's data root. */
  readonly dataRoot: string;
  /** Where a volume's data are here; undefined for one that is not here. */
  readonly mountpoint: (volume: string) => string | undefined;
};

/** Throws data_loss for a record that makes no container. */
export function convertContainer({ config, host }: Read, options: ConvertOptions): Converted {
  const id = config.ID;
  const directory = join(options.dataRoot, "containers", id);
  const { hostConfig, notes } = convertHost(host);
  const record = {
    id,
    created: config.Created,
    ...(config.Image === "" ? {} : { imageId: config.Image }),
    image: String(config.Config.Image ?? ""),
    path: config.Path,
    args: config.Args ?? [],
    config: withoutNulls(config.Config),
    hostConfig,
    mounts: mountsOf(config, host, options),
    networks: networksOf(config),
    logPath: logType(hostConfig) === "none" ? "" : join(directory, `${id}.log`),
    ...configPaths(directory),
  };
  // What is decoded here is what the engine decodes when it starts: nothing else gets in.
  const name = parseContainerName(config.Name ?? "");
  const row = { id, name, record: JSON.stringify({ ...record, name }), state: JSON.stringify(stateOf(config)) };
  const decoded = decodeRow(row);
  return { ...decoded, notes: [...notes, ...obstacles(decoded.record)] };
}

function obstacles({ hostConfig, config }: ContainerRecord): readonly string[] {
  try {
    checkHostConfig(hostConfig);
    checkRunConfig(config);
    return [];
  } catch (error) {
    return [`it will not start here: ${errorMessage(error)}`];
  }
}

function withoutNulls(document: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== null));
}

function stateOf({ State, RestartCount, HasBeenManuallyStopped }: SourceConfig): SavedState {
  const startedAt = State.StartedAt || never;
  return {
    status: startedAt === never ? "created" : "exited",
    exitCode: State.ExitCode ?? 0,
    error: State.Error ?? "",
    oomKilled: State.OOMKilled === true,
    startedAt,
    finishedAt: State.FinishedAt || never,
    restartCount: RestartCount ?? 0,
    stoppedByUser: HasBeenManuallyStopped === true,
  };
}

/** Names of endpoints as the client gave them; addresses die with the network that gave them. */
function networksOf({ NetworkSettings }: SourceConfig): Record<string, object> {
  const given = Object.entries(NetworkSettings?.Networks ?? {});
  return Object.fromEntries(
    given.map(([name, endpoint]) => {
      const known = decodeShape(anyMap, endpoint);
      const aliases = known.ok ? known.value.Aliases : undefined;
      return [name, Array.isArray(aliases) && aliases.length > 0 ? { Aliases: aliases } : {}];
    }),
  );
}

const logType = (host: Readonly<Record<string, unknown>>): string => logOf(host).type;

function logOf({ LogConfig }: Readonly<Record<string, unknown>>): {
  readonly type: string;
  readonly options: Readonly<Record<string, unknown>>;
} {
  const log = decodeShape(anyMap, LogConfig);
  const options = decodeShape(anyMap, log.ok ? log.value.Config : undefined);
  return { type: log.ok ? String(log.value.Type ?? "") : "", options: options.ok ? options.value : {} };
}

type HostRecord = Readonly<Record<string, unknown>>;

function convertHost(host: HostRecord): { readonly hostConfig: HostRecord; readonly notes: readonly string[] } {
  const { type, options } = logOf(host);
  const notes: string[] = [];
  const keeps = ["", "json-file", "none"].includes(type);
  if (!keeps) notes.push(`its log driver ${JSON.stringify(type)} becomes json-file, and its log is not brought`);
  const kept = keeps ? Object.entries(options).filter(([key]) => key === "max-size") : [];
  const dropped = Object.keys(options).filter((key) => key !== "max-size" || !keeps);
  if (dropped.length > 0) notes.push(`log options that are not supported are dropped: ${dropped.join(", ")}`);
  const changed: Record<string, unknown> = {
    LogConfig: { Type: keeps && type !== "" ? type : "json-file", Config: Object.fromEntries(kept) },
  };
  // Nobody can join it here, which is all that tells the two apart.
  if (host.IpcMode === "shareable") changed.IpcMode = "private";
  // The same program by the name that containerd's shim has.
  if (host.Runtime === "io.containerd.runc.v2") changed.Runtime = "runc";
  return { hostConfig: { ...host, ...changed }, notes };
}

function mountsOf(config: SourceConfig, host: HostRecord, { mountpoint }: ConvertOptions): readonly MountPoint[] {
  const points = Object.values(config.MountPoints ?? {}).map((point) => mountOf(point, mountpoint));
  const taken = new Set(points.map(({ destination }) => destination));
  const tmpfs = decodeShape(anyMap, host.Tmpfs);
  for (const [target, options] of Object.entries(tmpfs.ok ? tmpfs.value : {}))
    if (!taken.has(target)) points.push(parseTmpfs(target, String(options)).point);
  return points.sort(byDepth);
}

/** The request that dockerd kept says how, its own members say what became of it. */
function mountOf(source: SourceMountPoint, mountpoint: ConvertOptions["mountpoint"]): MountPoint {
  const { Destination, Name, RW, Relabel, Propagation, Driver } = source;
  const type = source.Type || (Name === "" ? "bind" : "volume");
  const spec = withoutNulls(source.Spec ?? {});
  const asked = type === "tmpfs" ? undefined : type === "volume" ? Name : source.Source;
  const request = { ...spec, Type: type, Target: Destination, ...(asked === undefined ? {} : { Source: asked }) };
  const { point } = parseMountRequest(request as MountRequest);
  if (point.type === "tmpfs") return point;
  const common = { ...point, readWrite: RW === true, mode: Relabel ?? "", copyUp: false };
  if (point.type === "bind") return { ...common, propagation: Propagation || point.propagation };
  const here = mountpoint(Name ?? "");
  if (here === undefined) throw new EngineError("not_found", `its volume ${Name} is not here`);
  // As `docker rm -v` tells them apart: only one that nobody named goes.
  return { ...common, source: here, driver: Driver || "local", anonymous: (spec.Source ?? "") === "" };
}
