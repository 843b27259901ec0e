/**
 * Reads an image config document, which a stranger may have written. Members that mean nothing here are allowed and
 * ignored; `null` is the same as absent, as it is for Docker. The text itself is what gets stored: its digest is the id.
 */
import * as v from "valibot";
import {
  type ChainId,
  chainIdsOf,
  type DiffId,
  digestOf,
  type ImageId,
  parseDiffId,
  parseImageId,
} from "../base/digest.ts";
import { EngineError } from "../base/errors.ts";
import type { ImageConfig } from "../base/oci.ts";
import { decodeShape, looseObject, objectMap, textMap } from "../base/shape.ts";

export type ParsedConfig = {
  readonly config: ImageConfig;
  readonly diffIds: readonly DiffId[];
  /** Chain IDs of the layers, lowest first. */
  readonly chain: readonly ChainId[];
};

/** Docker's own limit for the layers of an image (127 minus writable and init layer). */
const maxLayers = 125;

const text = v.optional(v.string());
const number = v.optional(v.number());
const list = v.array(v.string());
const strings = v.optional(list);
const set = v.optional(objectMap);

const runConfig = looseObject({
  Hostname: text,
  Domainname: text,
  User: text,
  ExposedPorts: set,
  Env: strings,
  Cmd: strings,
  Healthcheck: v.optional(
    looseObject({
      Test: strings,
      Interval: number,
      Timeout: number,
      StartPeriod: number,
      StartInterval: number,
      Retries: number,
    }),
  ),
  Image: text,
  Volumes: set,
  WorkingDir: text,
  Entrypoint: strings,
  OnBuild: strings,
  Labels: v.optional(textMap),
  StopSignal: text,
  StopTimeout: number,
  Shell: strings,
});

const history = looseObject({
  created: text,
  created_by: text,
  author: text,
  comment: text,
  empty_layer: v.optional(v.boolean()),
});

const imageConfig = looseObject({
  architecture: v.optional(v.string(), ""),
  os: v.optional(v.string(), "linux"),
  variant: text,
  created: text,
  author: text,
  comment: text,
  config: v.optional(runConfig),
  container_config: v.optional(runConfig),
  docker_version: text,
  rootfs: looseObject({ type: v.literal("layers"), diff_ids: v.optional(list, []) }),
  history: v.optional(v.array(history)),
});

/** Throws invalid_argument for what is no image config. */
export function parseImageConfig(text: string): ParsedConfig {
  const document = withoutNulls(text);
  if (typeof document !== "object" || document === null || !("rootfs" in document))
    throw invalid("invalid image JSON, no RootFS key");
  const parsed = decodeShape(imageConfig, document);
  if (!parsed.ok) throw invalid(`invalid image JSON: ${parsed.path}: ${parsed.problem}`);
  const diffIds = parsed.value.rootfs.diff_ids.map(parseDiffId);
  if (diffIds.length > maxLayers) throw invalid(`max depth exceeded: an image has at most ${maxLayers} layers`);
  // The schema proves the shape; what it cannot say is that optional members are absent rather than undefined.
  return { config: parsed.value as ImageConfig, diffIds, chain: chainIdsOf(diffIds) };
}

/** The image ID of a config text. */
export function imageIdOf(text: string): ImageId {
  return parseImageId(digestOf(text));
}

function withoutNulls(text: string): unknown {
  try {
    return JSON.parse(text, (_key, value: unknown) => (value === null ? undefined : value));
  } catch (cause) {
    throw new EngineError("invalid_argument", "invalid image JSON", { cause });
  }
}

const invalid = (message: string): EngineError => new EngineError("invalid_argument", message);
