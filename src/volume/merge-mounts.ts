/**
 * From everything that asks for mounts to one list, with Docker's precedence (moby daemon/volumes.go): what comes
 * `--volumes-from` gives way to binds and mounts, anonymous volumes of the image give way to all. Two binds or mounts on
 * one target are an error. Pure.
 */
import { EngineError } from "../base/errors.ts";
import type { MountPoint, MountRequest } from "../base/mount-point.ts";
import { draftOf, type MountDraft, parseBind, parseMountRequest, parseTmpfs, parseVolume } from "./parse-mounts.ts";

export type MountRequests = {
  readonly binds: readonly string[];
  readonly mounts: readonly MountRequest[];
  readonly tmpfs: Readonly<Record<string, string>>;
  /** Keys of `Config.Volumes`, the image's among them. */
  readonly volumes: readonly string[];
  /** `--volumes-from`, in order, each looked up already (see parseVolumesFrom). */
  readonly from: readonly { readonly mounts: readonly MountPoint[]; readonly readOnly: boolean }[];
  readonly volumeDriver?: string | undefined;
  /** SELinux is on: labels `z` and `Z` would have to be set, which is not done here. */
  readonly selinux?: boolean;
  /** The engine's data root: a bind that shows it must not hold its mounts fast. */
  readonly dataRoot?: string;
};

/** Drafts in the order in which they must be mounted: parents before what lies below. Throws invalid_argument. */
export function mergeMountPoints(requests: MountRequests): readonly MountDraft[] {
  const merged = new Map<string, MountDraft>();
  for (const draft of draftsFrom(requests.from)) merged.set(draft.point.destination, draft);
  const asked = new Set(Object.keys(requests.tmpfs).map((target) => parseTmpfs(target, "").point.destination));
  for (const draft of [
    ...requests.binds.map((spec) => parseBind(spec, requests)),
    ...requests.mounts.map((request) => parseMountRequest(request)),
  ]) {
    const { destination } = draft.point;
    if (asked.has(destination)) throw new EngineError("invalid_argument", `Duplicate mount point: ${destination}`);
    asked.add(destination);
    merged.set(destination, draft);
  }
  for (const [target, options] of Object.entries(requests.tmpfs)) {
    const draft = parseTmpfs(target, options);
    merged.set(draft.point.destination, draft);
  }
  for (const target of requests.volumes) {
    const draft = parseVolume(target, requests);
    if (!merged.has(draft.point.destination)) merged.set(draft.point.destination, draft);
  }
  const drafts = [...merged.values()];
  if (requests.selinux === true) drafts.forEach(refuseRelabel);
  const { dataRoot } = requests;
  const kept = dataRoot === undefined ? drafts : drafts.map((draft) => letGo(draft, dataRoot));
  return kept.sort((a, b) => byDepth(a.point, b.point));
}

/**
 * A private bind of a directory with the data root in it would keep every mount of the engine alive after it was
 * unmounted outside; so such a bind is a slave, and asking for a private one is refused, as in Docker.
 */
function letGo(draft: MountDraft, dataRoot: string): MountDraft {
  const { point } = draft;
  if (point.type !== "bind" || (!isInside(point.source, dataRoot) && !isInside(dataRoot, point.source))) return draft;
  if (draft.asksPropagation && point.propagation.endsWith("private"))
    throw new EngineError(
      "invalid_argument",
      `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: ${JSON.stringify(dataRoot)}, bind mount source: ${JSON.stringify(point.source)}, propagation: ${JSON.stringify(point.propagation)}`,
    );
  return draft.asksPropagation ? draft : { ...draft, point: { ...point, propagation: "rslave" } };
}

const isInside = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);

/** Mounts of other containers: never filled again, never more writable than they were. */
function* draftsFrom(from: MountRequests["from"]): Iterable<MountDraft> {
  for (const { mounts, readOnly } of from)
    for (const mount of mounts) {
      const point = { ...mount, readWrite: mount.readWrite && !readOnly, mode: "", copyUp: false };
      yield { ...draftOf(point), asksPropagation: true };
    }
}

function refuseRelabel({ point }: MountDraft): void {
  if (point.type === "bind" && /(^|,)[zZ](,|$)/.test(point.mode))
    throw new EngineError(
      "unsupported",
      `relabeling for SELinux (mode ${point.mode} of ${point.destination}) is not supported; label ${point.source} with chcon and leave z and Z out`,
    );
}

/** The order in which mount points are mounted: parents before what lies below. */
export function byDepth(a: Pick<MountPoint, "destination">, b: Pick<MountPoint, "destination">): number {
  const depth = a.destination.split("/").length - b.destination.split("/").length;
  return depth !== 0 ? depth : a.destination < b.destination ? -1 : 1;
}
