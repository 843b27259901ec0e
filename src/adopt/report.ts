/** What an adoption did, or would do, object by object. The command prints it; `--json` prints it as it is. */

export type ItemKind = "volume" | "image" | "container";

/** `present`: it was here already, by id or, for volumes, by name. `planned`: a dry run would have adopted it. */
export type Outcome = "adopted" | "present" | "planned" | "skipped";

export type Item = {
  readonly kind: ItemKind;
  /** As people call it; an id where it has no name. */
  readonly name: string;
  readonly id?: string;
  readonly outcome: Outcome;
  /** Bytes of files that came, or would come; what is shared counts where it came first. */
  readonly bytes: number;
  /** Why it was skipped. */
  readonly reason?: string;
  /** What is not as it was. */
  readonly notes?: readonly string[];
};

export type AdoptReport = {
  /** The data root that was read, and the storage driver it was written with. */
  readonly source: { readonly path: string; readonly driver: string };
  readonly target: { readonly path: string; readonly driver: string };
  readonly dryRun: boolean;
  readonly items: readonly Item[];
  /** What concerns no single object. */
  readonly problems: readonly string[];
};

/** True when everything came, or was here. */
export const isComplete = ({ items, problems }: AdoptReport): boolean =>
  problems.length === 0 && items.every(({ outcome }) => outcome !== "skipped");

/** What the adoption tells while it works. */
export type Told =
  | { readonly event: "begin"; readonly kind: ItemKind; readonly name: string }
  /** So many bytes more were read for it. */
  | { readonly event: "bytes"; readonly count: number }
  | { readonly event: "end"; readonly item: Item };

export type Tell = (told: Told) => void;
