/** What a stage has come to: its image so far and the config that the next instruction starts from. */
import type { ImageId } from "../base/digest.ts";
import type { RunConfig } from "../base/oci.ts";

export type StageState = {
  /** Undefined: scratch, nothing yet. */
  readonly imageId: ImageId | undefined;
  readonly config: RunConfig;
  /** A CMD stood in this stage: a later ENTRYPOINT leaves it. */
  readonly cmdSet: boolean;
  readonly author: string;
};

export type StageResult = { readonly name: string | undefined; readonly imageId: ImageId | undefined };
