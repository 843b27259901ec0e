/**
 * What holds the data of a volume that is a directory of this machine (see directory-driver.ts): the directory itself,
 * a filesystem in a file, a subvolume, a dataset. A *folder* is a volume's own directory below its driver, with `_data`
 * in it; it is in sight under the volume's name, or staged, or on its way out.
 */
import type { CopyCost, CopyWork, VolumeSnapshot, VolumeSpec } from "./driver.ts";

/** A volume as it is now, or as it was when the snapshot was made. */
export type ContentSource = {
  readonly folder: string;
  readonly snapshot?: string | undefined;
  /** Of who asked for the copy. */
  readonly work: CopyWork;
};

/** What containers see is mounted on, or is, this directory of a folder. */
export const dataName = "_data";

export interface VolumeContent {
  /**
   * Makes the data of `spec` in a staged folder whose `_data` is empty, as a copy of `source` where that is given. Durable
   * when it resolves; what it made outside the folder is found again by `release`. Throws where options cannot be kept.
   */
  make(folder: string, spec: VolumeSpec, source?: ContentSource): Promise<void>;
  /** Puts the data on `_data`, where nothing is mounted. Nothing to do where it is there by itself. */
  mount(folder: string): Promise<void>;
  /** Gives back what is outside of a folder that is out of sight, and what unlinking does not end. Safe to repeat. */
  release(folder: string): Promise<void>;
  /** Bytes, each inode once. */
  usage(folder: string, signal?: AbortSignal): Promise<number>;
  /** Sets the limit in bytes; undefined takes it away. `used`: it is mounted. Throws conflict where that cannot be now. */
  resize(folder: string, size: number | undefined, used: boolean): Promise<void>;
  /** What a crash left inside a volume in sight goes. */
  sweep(folder: string): Promise<void>;
  /** The volume has a new name: its folder has moved here. */
  moved?(folder: string): Promise<void>;
  /** Where there is none, moments cannot be kept. */
  readonly snapshots?: ContentSnapshots;
}

/** As VolumeSnapshots, of volumes that exist; names are valid, and a volume that is restored is not used. */
export interface ContentSnapshots {
  cost(folder: string): Promise<CopyCost>;
  /** Nobody changes the volume meanwhile, or it costs nothing. */
  create(folder: string, snapshot: string, work: CopyWork): Promise<void>;
  /** For what has to be copied: as much of that as can be done while the volume is in use. */
  begin?(folder: string, snapshot: string, work: CopyWork): Promise<BegunSnapshot>;
  list(folder: string): Promise<readonly VolumeSnapshot[]>;
  remove(folder: string, snapshot: string): Promise<void>;
  restore(
    folder: string,
    snapshot: string,
    restoring: { readonly spec: VolumeSpec; readonly work: CopyWork },
  ): Promise<void>;
}

/** A snapshot of which the greater part is copied. Disposing takes it back, unless it is finished. */
export type BegunSnapshot = AsyncDisposable & {
  /** `still`: nobody writes any more, so the rest is copied. Else it stays as it is; true when nobody wrote meanwhile. */
  finish(still: boolean): Promise<boolean>;
};
