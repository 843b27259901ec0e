/**
 * What a container runs: the image's config and the request's, merged by Docker's rules. The request wins member by
 * member; Env merges by key (the request's first), Labels, Volumes and ExposedPorts by union; Entrypoint and Cmd go together,
 * because a new entrypoint makes the image's command meaningless.
 */
import { EngineError } from "../base/errors.ts";
import type { HealthConfig, RunConfig } from "../base/oci.ts";

const keyOf = (variable: string): string => variable.split("=", 1)[0] ?? variable;

function mergeEnv(image: readonly string[], request: readonly string[]): readonly string[] {
  const given = new Set(request.map(keyOf));
  // `KEY` without `=` in a request hides the image's variable; the process gets neither.
  return [...request, ...image.filter((variable) => !given.has(keyOf(variable)))];
}

function mergeHealth(image: HealthConfig | undefined, request: HealthConfig | undefined): HealthConfig | undefined {
  if (image === undefined || request === undefined) return request ?? image;
  const merged: Record<string, unknown> = { ...image };
  for (const [key, value] of Object.entries(request)) {
    const empty = value === 0 || value === undefined || value === null || (Array.isArray(value) && value.length === 0);
    if (!empty) merged[key] = value;
  }
  return merged;
}

type Command = { readonly Entrypoint: readonly string[] | null; readonly Cmd: readonly string[] | null };

function mergeCommand(image: RunConfig, request: RunConfig): Command {
  let entrypoint = request.Entrypoint ?? null;
  let command = request.Cmd ?? null;
  if (entrypoint === null || entrypoint.length === 0) {
    if (command === null || command.length === 0) command = image.Cmd ?? null;
    entrypoint ??= image.Entrypoint ?? null;
  }
  // `--entrypoint ""` arrives as [""] and means none.
  if (entrypoint?.length === 1 && entrypoint[0] === "") entrypoint = null;
  return { Entrypoint: entrypoint, Cmd: command };
}

/** Throws invalid_argument "No command specified" when neither says what to run. */
export function mergeRunConfig(image: RunConfig, request: RunConfig): RunConfig {
  const merged = mergeConfigs(image, request);
  if ((merged.Entrypoint ?? []).length + (merged.Cmd ?? []).length === 0)
    throw new EngineError("invalid_argument", "No command specified");
  return merged;
}

/** The same for a config that nothing has to run by, as a commit makes one. */
export function mergeConfigs(image: RunConfig, request: RunConfig): RunConfig {
  const { Entrypoint, Cmd } = mergeCommand(image, request);
  const health = mergeHealth(image.Healthcheck, request.Healthcheck);
  const stopSignal = request.StopSignal || image.StopSignal;
  const stopTimeout = request.StopTimeout ?? image.StopTimeout;
  const shell = request.Shell ?? image.Shell;
  return {
    ...request,
    User: request.User || image.User || "",
    Env: mergeEnv(image.Env ?? [], request.Env ?? []),
    Cmd,
    Entrypoint,
    WorkingDir: request.WorkingDir || image.WorkingDir || "",
    Labels: { ...image.Labels, ...request.Labels },
    ...mergeUnions(image, request),
    ...(health === undefined ? {} : { Healthcheck: health }),
    ...(stopSignal === undefined || stopSignal === "" ? {} : { StopSignal: stopSignal }),
    ...(stopTimeout === undefined ? {} : { StopTimeout: stopTimeout }),
    ...(shell === undefined ? {} : { Shell: shell }),
  };
}

function mergeUnions(image: RunConfig, request: RunConfig): Pick<RunConfig, "Volumes" | "ExposedPorts"> {
  const volumes = { ...image.Volumes, ...request.Volumes };
  const ports = { ...image.ExposedPorts, ...request.ExposedPorts };
  return {
    Volumes: Object.keys(volumes).length === 0 ? null : volumes,
    ...(Object.keys(ports).length === 0 ? {} : { ExposedPorts: ports }),
  };
}

/** argv of the first process: entrypoint, then command. */
export function commandLine(config: RunConfig): { readonly path: string; readonly args: readonly string[] } {
  const [path = "", ...args] = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  return { path, args };
}
