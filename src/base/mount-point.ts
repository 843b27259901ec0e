/**
 * Mounts of a container as words: the request as a client writes it, and the mount point that the engine makes of it.
 * `volume/` parses one into the other, `container/` stores and mounts it; neither needs to know the other for that.
 */

export type MountPointType = "volume" | "bind" | "tmpfs";

/** One mount of a container, resolved at create. */
export type MountPoint = {
  readonly type: MountPointType;
  /** Volume name; undefined for others. */
  readonly name: string | undefined;
  /** Host path of a bind; a volume's mountpoint; "" for tmpfs. */
  readonly source: string;
  readonly destination: string;
  readonly driver: string | undefined;
  readonly mode: string;
  readonly readWrite: boolean;
  readonly propagation: string;
  /** False with nocopy, and for what is never filled. */
  readonly copyUp: boolean;
  readonly subpath: string | undefined;
  /** An anonymous volume of this container goes with `rm -v`. */
  readonly anonymous: boolean;
  readonly nonRecursive: boolean;
  readonly readOnlyMode: "recursive" | "non-recursive" | "force-recursive";
  readonly tmpfsOptions: string | undefined;
};

/** `HostConfig.Mounts[]` of the API. */
export type MountRequest = {
  readonly Type: string;
  readonly Source?: string;
  readonly Target: string;
  readonly ReadOnly?: boolean;
  readonly Consistency?: string;
  readonly BindOptions?: {
    readonly Propagation?: string;
    readonly NonRecursive?: boolean;
    readonly CreateMountpoint?: boolean;
    readonly ReadOnlyNonRecursive?: boolean;
    readonly ReadOnlyForceRecursive?: boolean;
  };
  readonly VolumeOptions?: {
    readonly NoCopy?: boolean;
    readonly Labels?: Readonly<Record<string, string>>;
    readonly Subpath?: string;
    readonly DriverConfig?: { readonly Name?: string; readonly Options?: Readonly<Record<string, string>> };
  };
  readonly TmpfsOptions?: {
    readonly SizeBytes?: number;
    readonly Mode?: number;
    readonly Options?: readonly (readonly string[])[];
  };
};
