/** Volumes as the API shows them. */
import type { Volume } from "../../volume/store.ts";

/** Clients know a volume without a name of its own by this label. */
const anonymousLabel = "com.docker.volume.anonymous";

const orNull = (map: Readonly<Record<string, string>>): object | null => (Object.keys(map).length > 0 ? map : null);

export function volumeJson(volume: Volume): object {
  const labels = volume.anonymous ? { [anonymousLabel]: "", ...volume.labels } : volume.labels;
  return {
    CreatedAt: volume.createdAt,
    Driver: volume.driver,
    Labels: orNull(labels),
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: orNull(volume.options),
    Scope: volume.scope,
    ...(volume.status === undefined ? {} : { Status: volume.status }),
  };
}

/** As {@link volumeJson}, with `system df`'s figures: bytes (-1 unknown) and how many containers use it. */
export function volumeUsageJson(volume: Volume, size: number, users: number): object {
  return { ...volumeJson(volume), UsageData: { RefCount: users, Size: size } };
}
