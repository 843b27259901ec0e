/**
 * A mount as a value: a driver describes, `host/` mounts. A layer's view is a sequence of steps, applied in order on
 * one target directory and undone in reverse, so that a driver that needs several mounts (or a loop device, or a
 * helper process) fits the same contract.
 */

export type MountStep =
  /** `source` seen at the target. `readonly` remounts it so. */
  | { readonly kind: "bind"; readonly source: string; readonly readonly: boolean; readonly recursive?: boolean }
  /**
   * overlayfs. `lower` from the topmost down; without `upper` the view is read-only. An `upper` or `work` that is
   * relative stands below the target, in what the step before mounted there.
   */
  | {
      readonly kind: "overlay";
      readonly lower: readonly string[];
      readonly upper?: string;
      readonly work?: string;
      readonly options?: readonly string[];
    }
  /**
   * Any filesystem by mount(2): `type`, `source`, comma-separable `options` (flags such as `ro` among them). `more` are
   * options for remounts right after it, for a filesystem that is told more than the kernel reads at once.
   */
  | {
      readonly kind: "filesystem";
      readonly type: string;
      readonly source: string;
      readonly options: readonly string[];
      readonly more?: readonly (readonly string[])[];
    }
  /** The filesystem of `type` in the file `file`, by way of a loop device that goes with the last mount of that file. */
  | { readonly kind: "image"; readonly type: "ext4"; readonly file: string; readonly options: readonly string[] }
  /**
   * A filesystem that a process of its own serves (FUSE). `program` with `args` and the target as the last of them
   * mounts it, goes into the background and lives as long as the mount; `directory` is where it looks up relative paths.
   * `{target}` in an argument becomes the target, quoted as in mount options: what the step before mounted there.
   */
  | {
      readonly kind: "helper";
      readonly program: string;
      readonly args: readonly string[];
      readonly directory: string;
    };

export type Mounts = readonly MountStep[];
