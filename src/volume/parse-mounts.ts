/**
 * The grammar of mounts: `-v source:target:mode`, `--mount` requests and `--tmpfs target:options` become drafts of
 * mount points, with Docker's rules and words (moby daemon/volume/mounts). Pure: what must be looked up (does a bind's
 * source exist, which driver has a volume) is said in the draft and left to the caller.
 */
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";
import type { MountPoint, MountRequest } from "../base/mount-point.ts";
import { cleanPath, isLocalPath } from "./clean-path.ts";
import { findMode, type MountMode, parseMode, propagations } from "./mount-mode.ts";
import { requestedTmpfsOptions, tmpfsOptions } from "./tmpfs-options.ts";

/** A mount point before its volume exists: `name` (of an anonymous volume) and `source` (of any) are filled in later. */
export type MountDraft = {
  readonly point: MountPoint;
  /** With what to make the volume if it does not exist; its name and driver are in `point`. */
  readonly volume: {
    readonly options: Readonly<Record<string, string>>;
    readonly labels: Readonly<Record<string, string>>;
  };
  /** True: make a missing bind source, as a directory. False: it must exist (see {@link missingSource}). */
  readonly createSource: boolean;
  /** The request named a propagation; otherwise it is the default and may be changed for one that is safer. */
  readonly asksPropagation: boolean;
};

const defaultDriver = "local";
const consistencies: ReadonlySet<string> = new Set(["", "default", "consistent", "cached", "delegated"]);

const blank: MountPoint = {
  type: "volume",
  name: undefined,
  source: "",
  destination: "",
  driver: undefined,
  mode: "",
  readWrite: true,
  propagation: "",
  copyUp: false,
  subpath: undefined,
  anonymous: false,
  nonRecursive: false,
  readOnlyMode: "recursive",
  tmpfsOptions: undefined,
};

/** `-v` of the CLI, an element of `HostConfig.Binds`. `volumeDriver`: `--volume-driver`, for volumes only. Throws invalid_argument. */
export function parseBind(spec: string, options: { readonly volumeDriver?: string | undefined } = {}): MountDraft {
  const { source, target, mode: text } = splitBind(spec);
  const mode = parseMode(text);
  try {
    const draft = parseMountRequest(requestOf(source, target, mode), true);
    const driver = options.volumeDriver === "" ? undefined : options.volumeDriver;
    if (draft.point.type === "bind") return { ...draft, point: { ...draft.point, mode: text } };
    return { ...draft, point: { ...draft.point, driver, mode: volumeMode(text, driver) } };
  } catch (cause) {
    throw new EngineError(errorCode(cause), `${invalidSpec(spec)}: ${errorMessage(cause)}`, { cause });
  }
}

/** `--mount` of the CLI, an element of `HostConfig.Mounts`. Throws invalid_argument; unsupported for types of mounts that do not exist here. */
export function parseMountRequest(request: MountRequest, createSource = false): MountDraft {
  try {
    validateTarget(request.Target);
    if (!consistencies.has(request.Consistency ?? "")) throw invalid(`invalid consistency: ${request.Consistency}`);
    switch (request.Type) {
      case "volume":
        return draftVolume(request);
      case "bind":
        return draftBind(request, createSource || request.BindOptions?.CreateMountpoint === true);
      case "tmpfs":
        return draftTmpfs(request);
      case "image":
        throw new EngineError("unsupported", "mounts of images are not supported yet; use a volume or a bind");
      default:
        throw invalid("mount type unknown");
    }
  } catch (cause) {
    throw new EngineError(errorCode(cause), `${invalidMount(request.Type)}: ${errorMessage(cause)}`, { cause });
  }
}

/** `--tmpfs target:options`, an entry of `HostConfig.Tmpfs`. Throws invalid_argument. */
export function parseTmpfs(target: string, options: string): MountDraft {
  validateTarget(target);
  const merged = tmpfsOptions(options);
  const readWrite = !merged.split(",").includes("ro");
  return draftOf({ ...blank, type: "tmpfs", destination: cleanPath(target), readWrite, tmpfsOptions: merged });
}

/** `-v target` of the CLI and `VOLUME` of an image, a key of `Config.Volumes`: an anonymous volume. */
export function parseVolume(target: string, options: { readonly volumeDriver?: string | undefined } = {}): MountDraft {
  const destination = cleanPath(target.startsWith("/") ? target : `/${target}`);
  validateTarget(destination);
  const driver = options.volumeDriver === "" ? undefined : options.volumeDriver;
  return draftOf({ ...blank, destination, driver, copyUp: true, anonymous: true });
}

/** What to throw when the source of a bind with `createSource` false is not there. */
export function missingSource(point: MountPoint): EngineError {
  return invalid(`${invalidMount("bind")}: bind source path does not exist: ${point.source}`);
}

function splitBind(spec: string): { readonly source: string; readonly target: string; readonly mode: string } {
  const [first = "", second, third, ...more] = spec.split(":");
  if (first === "" || more.length > 0) throw invalid(invalidSpec(spec));
  if (second === undefined) return { source: "", target: first, mode: "" };
  if (third !== undefined) return { source: first, target: second, mode: third };
  // A target and a mode, `/data:ro`, is no volume: it would silently be a volume of its own.
  if (findMode(second) !== undefined) throw invalid(invalidSpec(spec));
  return { source: first, target: second, mode: "" };
}

/** The same in the words of a mount request, so that one set of rules judges both forms. */
function requestOf(source: string, target: string, mode: MountMode): MountRequest {
  return {
    Type: source.startsWith("/") ? "bind" : "volume",
    Source: source,
    Target: target,
    ReadOnly: mode.readOnly,
    ...(mode.propagation === undefined ? {} : { BindOptions: { Propagation: mode.propagation } }),
    ...(mode.noCopy ? { VolumeOptions: { NoCopy: true } } : {}),
  };
}

function draftVolume(request: MountRequest): MountDraft {
  refuse(request, ["BindOptions", "TmpfsOptions"]);
  const { Source: name = "", VolumeOptions: wanted = {} } = request;
  const subpath = wanted.Subpath === "" ? undefined : wanted.Subpath;
  if (subpath !== undefined && name === "") throw invalid("must not set Subpath when using anonymous volumes");
  if (subpath !== undefined && !isLocalPath(subpath))
    throw invalid("subpath must be a relative path within the volume");
  const driver = wanted.DriverConfig?.Name === "" ? undefined : wanted.DriverConfig?.Name;
  const point: MountPoint = {
    ...blank,
    name: name === "" ? undefined : name,
    destination: cleanPath(request.Target),
    driver,
    mode: volumeMode("", driver),
    readWrite: request.ReadOnly !== true,
    copyUp: wanted.NoCopy !== true,
    subpath,
    anonymous: name === "",
  };
  return draftOf(point, { options: wanted.DriverConfig?.Options ?? {}, labels: wanted.Labels ?? {} });
}

function draftBind(request: MountRequest, createSource: boolean): MountDraft {
  const { Source: source = "", BindOptions: wanted = {} } = request;
  if (source === "") throw invalid("field Source must not be empty");
  if (wanted.Propagation !== undefined && wanted.Propagation !== "" && !propagations.has(wanted.Propagation))
    throw invalid(`invalid propagation mode: ${wanted.Propagation}`);
  refuse(request, ["VolumeOptions", "TmpfsOptions"]);
  validateAbsolute(source);
  const point: MountPoint = {
    ...blank,
    type: "bind",
    source: cleanPath(source),
    destination: cleanPath(request.Target),
    readWrite: request.ReadOnly !== true,
    propagation: wanted.Propagation || "rprivate",
    nonRecursive: wanted.NonRecursive === true,
    readOnlyMode: readOnlyMode(wanted),
  };
  return { ...draftOf(point), createSource, asksPropagation: (wanted.Propagation ?? "") !== "" };
}

function draftTmpfs(request: MountRequest): MountDraft {
  refuse(request, ["BindOptions", "VolumeOptions"]);
  if ((request.Source ?? "") !== "") throw invalid("field Source must not be specified");
  return parseTmpfs(request.Target, requestedTmpfsOptions(request));
}

function readOnlyMode(wanted: NonNullable<MountRequest["BindOptions"]>): MountPoint["readOnlyMode"] {
  const { ReadOnlyNonRecursive: writable = false, ReadOnlyForceRecursive: force = false } = wanted;
  if (writable && force) throw invalid("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive");
  if (force && wanted.NonRecursive === true)
    throw invalid("mount options conflict: NonRecursive && ReadOnlyForceRecursive");
  return writable ? "non-recursive" : force ? "force-recursive" : "recursive";
}

/** Docker shows the SELinux label that it would give a volume of its own. */
const volumeMode = (mode: string, driver: string | undefined): string =>
  mode === "" && (driver ?? defaultDriver) === defaultDriver ? "z" : mode;

function refuse(request: MountRequest, members: readonly (keyof MountRequest)[]): void {
  for (const member of members)
    if (request[member] !== undefined) throw invalid(`field ${member} must not be specified`);
}

function validateTarget(target: string): void {
  if (target === "") throw invalid("field Target must not be empty");
  if (cleanPath(target) === "/") throw invalid("invalid specification: destination can't be '/'");
  validateAbsolute(target);
}

function validateAbsolute(path: string): void {
  if (!path.startsWith("/")) throw invalid(`invalid mount path: '${path}' mount path must be absolute`);
  if (path.includes("\0")) throw invalid(`invalid mount path: ${JSON.stringify(path)} has a NUL in it`);
}

/** A draft of which nothing more is known. */
export const draftOf = (point: MountPoint, volume: MountDraft["volume"] = { options: {}, labels: {} }): MountDraft => ({
  point,
  volume,
  createSource: false,
  asksPropagation: false,
});

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
const invalidSpec = (spec: string): string => `invalid volume specification: '${spec}'`;
const invalidMount = (type: string): string => `invalid mount config for type ${JSON.stringify(type)}`;
