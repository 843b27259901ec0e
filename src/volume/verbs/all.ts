/** The verbs together, as the contract has them. */

import { snapshotsOf } from "../snapshots.ts";
import type { VolumeVerbs } from "../verbs.ts";
import { renameVolume, resizeVolume, updateVolume } from "./change.ts";
import { cloneVolume } from "./clone.ts";
import { subject, type VerbContext } from "./context.ts";
import { cancelMigration, migrateVolume, recoverMigrations } from "./migrate.ts";
import { sizeOfVolume, whoUses } from "./size.ts";
import { createSnapshot, removeSnapshot, restoreSnapshot } from "./snapshot.ts";
import { exportVolume, importVolume } from "./transfer.ts";

export function verbsOf(context: VerbContext): VolumeVerbs {
  return {
    clone: (...given) => cloneVolume(context, ...given),
    createSnapshot: (...given) => createSnapshot(context, ...given),
    listSnapshots: async (volume) => snapshotsOf(context, await subject(context, volume)),
    removeSnapshot: (...given) => removeSnapshot(context, ...given),
    restoreSnapshot: (...given) => restoreSnapshot(context, ...given),
    rename: (...given) => renameVolume(context, ...given),
    update: (...given) => updateVolume(context, ...given),
    resize: (...given) => resizeVolume(context, ...given),
    export: (...given) => exportVolume(context, ...given),
    import: (...given) => importVolume(context, ...given),
    migrate: (...given) => migrateVolume(context, ...given),
    cancelMigration: (volume) => cancelMigration(context, volume),
    recover: () => recoverMigrations(context),
    size: (...given) => sizeOfVolume(context, ...given),
    who: (...given) => whoUses(context, ...given),
  };
}
