/**
 * Reads an image config document, which a stranger may have written. Members that mean nothing here are allowed and
 * ignored; `null` is the same as absent, as it is for Docker. The text itself is what gets stored: its digest is the id.
 */
import { z } from "zod";
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

export type ParsedConfig = {
  readonly config: ImageConfig;
  readonly diffIds: readonly DiffId[];
  /** Chain IDs of the layers, lowest first. */
  readonly chain: readonly ChainId[];
};

/** Docker's own limit for the layers of an image (127 minus writable and init layer). */
const maxLayers = 125;

const strings = z.array(z.string());
const set = z.record(z.string(), z.looseObject({}));

const runConfig = z.looseObject({
  Hostname: z.string().optional(),
  Domainname: z.string().optional(),
  User: z.string().optional(),
  ExposedPorts: set.optional(),
  Env: strings.optional(),
  Cmd: strings.optional(),
  Healthcheck: z
    .looseObject({
      Test: strings.optional(),
      Interval: z.number().optional(),
      Timeout: z.number().optional(),
      StartPeriod: z.number().optional(),
      StartInterval: z.number().optional(),
      Retries: z.number().optional(),
    })
    .optional(),
  Image: z.string().optional(),
  Volumes: set.optional(),
  WorkingDir: z.string().optional(),
  Entrypoint: strings.optional(),
  OnBuild: strings.optional(),
  Labels: z.record(z.string(), z.string()).optional(),
  StopSignal: z.string().optional(),
  StopTimeout: z.number().optional(),
  Shell: strings.optional(),
});

const history = z.looseObject({
  created: z.string().optional(),
  created_by: z.string().optional(),
  author: z.string().optional(),
  comment: z.string().optional(),
  empty_layer: z.boolean().optional(),
});

const imageConfig = z.looseObject({
  architecture: z.string().default(""),
  os: z.string().default("linux"),
  variant: z.string().optional(),
  created: z.string().optional(),
  author: z.string().optional(),
  comment: z.string().optional(),
  config: runConfig.optional(),
  container_config: runConfig.optional(),
  docker_version: z.string().optional(),
  rootfs: z.looseObject({ type: z.literal("layers"), diff_ids: strings.default([]) }),
  history: z.array(history).optional(),
});

/** Throws invalid_argument for what is no image config. */
export function parseImageConfig(text: string): ParsedConfig {
  const document = withoutNulls(text);
  if (typeof document !== "object" || document === null || !("rootfs" in document))
    throw invalid("invalid image JSON, no RootFS key");
  const parsed = imageConfig.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`invalid image JSON: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const diffIds = parsed.data.rootfs.diff_ids.map(parseDiffId);
  if (diffIds.length > maxLayers) throw invalid(`max depth exceeded: an image has at most ${maxLayers} layers`);
  // The schema proves the shape; what it cannot say is that optional members are absent rather than undefined.
  return { config: parsed.data as ImageConfig, diffIds, chain: chainIdsOf(diffIds) };
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
