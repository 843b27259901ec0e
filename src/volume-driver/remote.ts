/** Whether a volume may hang: its driver says so, it is somebody else's, or its options mount what is served elsewhere. */
import { isRemoteType, remoteMountOf } from "../host/remote-path.ts";
import type { VolumeDriver, VolumeSpec } from "./driver.ts";
import type { VolumeMount } from "./mounting.ts";

/** Asks the driver where the options decide, else its traits. */
export function isRemote(driver: Pick<VolumeDriver, "isRemote" | "traits">, spec: VolumeSpec): boolean {
  return driver.isRemote?.(spec) ?? (driver.traits.remote === true || driver.traits.foreign === true);
}

/** What is bound may hang when the place it comes from may. */
export function mountsRemote({ type, device, o }: VolumeMount): boolean {
  const words = o.split(",");
  if (!words.includes("bind") && !words.includes("rbind")) return isRemoteType(type);
  return device.startsWith("/") && remoteMountOf(device) !== undefined;
}
