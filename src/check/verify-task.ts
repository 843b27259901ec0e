/**
 * Verifies one layer in a pool worker, reading only: its tar is made again from tree and recipe and hashed, every entry
 * of it is compared with the tree, and the tree with the one below.
 */
import { createHash } from "node:crypto";
import { TarReader } from "../archive/read-tar.ts";
import { type LostFile, restoreTar } from "../archive/restore-tar.ts";
import { EngineError, errorMessage, isError, systemCode } from "../base/errors.ts";
import type { TaskContext } from "../host/pool.ts";
import { ClaimedTree, compareClaims, type Deviation, writesThroughLinks } from "./compare-claims.ts";
import { TarClaims } from "./tar-claims.ts";
import { unexplainedChanges } from "./unexplained.ts";

export type VerifyArgument = {
  readonly recipePath: string;
  /** Views of the layer and of the layer below (an empty directory for the lowest; undefined where there is none to see). */
  readonly root: string;
  readonly below: string | undefined;
  /** Bytes that the tar had: a damaged recipe must not make it endless. */
  readonly tarSize: number;
};

export type Verified = {
  readonly recipe: "whole" | "missing" | "damaged";
  /** Why the recipe is not whole. */
  readonly recipeProblem: string;
  readonly diffId: string;
  readonly tarSize: number;
  /** Bytes of files; undefined when it could not be known. */
  readonly size: number | undefined;
  readonly lost: readonly LostFile[];
  readonly deviations: readonly Deviation[];
  readonly unexplained: readonly { readonly path: string; readonly how: string }[];
};

const nothing = { diffId: "", tarSize: 0, size: undefined, lost: [], deviations: [], unexplained: [] };

export async function verifyLayerTask(argument: VerifyArgument, { signal }: TaskContext): Promise<Verified> {
  const lost: LostFile[] = [];
  const claims = new TarClaims();
  let sums: { readonly diffId: string; readonly tarSize: number };
  try {
    sums = await readTar(argument, { claims, lost, signal });
  } catch (error) {
    if (systemCode(error) === "ENOENT") return { ...nothing, recipe: "missing", recipeProblem: "" };
    if (!isError(error, "data_loss") && !isError(error, "invalid_argument") && !isError(error, "unsupported"))
      throw error;
    return { ...nothing, lost, recipe: "damaged", recipeProblem: errorMessage(error) };
  }
  const { root, below } = argument;
  using tree = new ClaimedTree(root);
  using belowTree = below === undefined ? undefined : new ClaimedTree(below);
  if (writesThroughLinks(belowTree, claims)) return { ...nothing, ...sums, recipe: "whole", recipeProblem: "", lost };
  const { deviations, size } = compareClaims(tree, claims);
  const unexplained = below === undefined ? [] : unexplainedChanges({ root, below }, tree, claims);
  return {
    ...sums,
    recipe: "whole",
    recipeProblem: "",
    size: lost.length + deviations.length > 0 ? undefined : size,
    lost,
    deviations,
    unexplained,
  };
}

type Found = { readonly claims: TarClaims; readonly lost: LostFile[]; readonly signal: AbortSignal };

async function readTar(argument: VerifyArgument, { claims, lost, signal }: Found) {
  const hash = createHash("sha256");
  let tarSize = 0;
  async function* hashed(): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of restoreTar(argument.recipePath, argument.root, { onLost: (file) => lost.push(file) })) {
      signal.throwIfAborted();
      hash.update(chunk);
      tarSize += chunk.length;
      if (tarSize > argument.tarSize + 1024 * 1024) throw tooLong(argument);
      yield chunk;
    }
  }
  const reader = new TarReader(hashed());
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) claims.add(entry);
  } finally {
    await reader.close();
  }
  return { diffId: `sha256:${hash.digest("hex")}`, tarSize };
}

const tooLong = ({ recipePath, tarSize }: VerifyArgument): EngineError =>
  new EngineError("data_loss", `layer recipe ${recipePath} makes more than the ${tarSize} bytes that the tar had`);
