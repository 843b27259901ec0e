/** What verbs share: the volume that is meant, and who stands in the way. */
import { EngineError } from "../../base/errors.ts";
import { haveVolume, type VolumeContext } from "../context.ts";
import { getVolume } from "../look.ts";
import type { Volume } from "../store.ts";
import type { VolumeUsers } from "../users.ts";

export type VerbContext = VolumeContext & { readonly users: VolumeUsers };

/** A volume that is on record, or was only known to a foreign driver and is from now on. */
export async function subject(context: VolumeContext, name: string): Promise<Volume> {
  await getVolume(context, name);
  return haveVolume(context, name);
}

/** Throws conflict, naming them, while containers run with the volume. */
export function refuseRunning({ users, uses }: VerbContext, name: string, what: string): void {
  const running = users.of(name).filter(({ status }) => ["running", "paused", "restarting"].includes(status));
  if (running.length > 0) {
    const names = running.map((user) => user.name).join(", ");
    throw new EngineError(
      "conflict",
      `cannot ${what} volume ${name}: ${names} ${running.length > 1 ? "run" : "runs"} with it; stop it first`,
    );
  }
  if ((uses.get(name)?.size ?? 0) > 0)
    throw new EngineError(
      "conflict",
      `cannot ${what} volume ${name}: it is mounted; stop the containers that use it first`,
    );
}
