/**
 * Bodies that make or change containers, decoded. JSON's null counts as not given, as in Go; members that the engine
 * does not know pass through, and the container service refuses those that ask for something.
 */
import { z } from "zod";
import type { RunConfig } from "../../base/oci.ts";
import type { HostConfig, NewContainer } from "../../container/container.ts";

const text = z.string().nullish();
const flag = z.boolean().nullish();
const integer = z.int().nullish();
const texts = z.array(z.string()).nullish();
const map = z.record(z.string(), z.string()).nullish();
/** Docker's strslice: a text or a list of them. */
const words = z.union([z.string().transform((word) => [word]), z.array(z.string())]).nullish();

/** Leaves out what was null, so that `undefined` inside means not given. */
function given<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null && member !== undefined)) as T;
}

const healthcheck = z
  .looseObject({
    Test: texts,
    Interval: integer,
    Timeout: integer,
    StartPeriod: integer,
    StartInterval: integer,
    Retries: integer,
  })
  .nullish();

const configMembers = {
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: z.record(z.string(), z.object({}).loose()).nullish(),
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: texts,
  Cmd: words,
  Healthcheck: healthcheck,
  ArgsEscaped: flag,
  Image: text,
  Volumes: z.record(z.string(), z.object({}).loose()).nullish(),
  WorkingDir: text,
  Entrypoint: words,
  NetworkDisabled: flag,
  MacAddress: text,
  OnBuild: texts,
  Labels: map,
  StopSignal: text,
  StopTimeout: integer,
  Shell: texts,
};

const mount = z
  .looseObject({
    Type: z.string().default(""),
    Source: text,
    Target: z.string().default(""),
    ReadOnly: flag,
    Consistency: text,
    BindOptions: z
      .looseObject({
        Propagation: text,
        NonRecursive: flag,
        CreateMountpoint: flag,
        ReadOnlyNonRecursive: flag,
        ReadOnlyForceRecursive: flag,
      })
      .transform(given)
      .nullish(),
    VolumeOptions: z
      .looseObject({
        NoCopy: flag,
        Labels: map,
        Subpath: text,
        DriverConfig: z.looseObject({ Name: text, Options: map }).transform(given).nullish(),
      })
      .transform(given)
      .nullish(),
    TmpfsOptions: z
      .looseObject({ SizeBytes: integer, Mode: integer, Options: z.array(z.array(z.string())).nullish() })
      .transform(given)
      .nullish(),
  })
  .transform(given);

/** Limits that create and update share. */
const resources = {
  Memory: integer,
  MemorySwap: integer,
  MemoryReservation: integer,
  NanoCpus: integer,
  CpuShares: integer,
  CpuPeriod: integer,
  CpuQuota: integer,
  CpusetCpus: text,
  CpusetMems: text,
  PidsLimit: integer,
  CgroupParent: text,
  Ulimits: z.array(z.looseObject({ Name: z.string(), Soft: z.int(), Hard: z.int() })).nullish(),
  Devices: z
    .array(z.looseObject({ PathOnHost: z.string(), PathInContainer: z.string(), CgroupPermissions: z.string() }))
    .nullish(),
  RestartPolicy: z.looseObject({ Name: z.string().default(""), MaximumRetryCount: z.int().default(0) }).nullish(),
};

const hostConfig = z.looseObject({
  ...resources,
  Binds: texts,
  Mounts: z.array(mount).nullish(),
  Tmpfs: map,
  VolumesFrom: texts,
  VolumeDriver: text,
  NetworkMode: text,
  AutoRemove: flag,
  CapAdd: words,
  CapDrop: words,
  Privileged: flag,
  ReadonlyRootfs: flag,
  SecurityOpt: texts,
  Init: flag,
  StorageOpt: map,
  ShmSize: integer,
  ExtraHosts: texts,
  Dns: texts,
  DnsSearch: texts,
  DnsOptions: texts,
  GroupAdd: texts,
  OomScoreAdj: integer,
  Sysctls: map,
  LogConfig: z.looseObject({ Type: z.string().default(""), Config: map }).nullish(),
  MaskedPaths: texts,
  ReadonlyPaths: texts,
  IpcMode: text,
  PidMode: text,
  UTSMode: text,
  UsernsMode: text,
  CgroupnsMode: text,
  Runtime: text,
  ContainerIDFile: text,
});

const endpoints = z.record(z.string(), z.record(z.string(), z.unknown()).nullable()).nullish();

/** `POST /containers/create`. */
export const createBody = z.looseObject({
  ...configMembers,
  HostConfig: hostConfig.nullish(),
  NetworkingConfig: z.looseObject({ EndpointsConfig: endpoints }).nullish(),
});

/** `POST /commit`. */
export const configBody = z.looseObject(configMembers);

/** `POST /containers/{id}/update`. */
export const updateBody = z.looseObject(resources);

/** The decoded body as the container service takes it. */
export function newContainer(body: z.infer<typeof createBody>, name: string | undefined): NewContainer {
  const { HostConfig: host, NetworkingConfig: networking, ...config } = body;
  const networks = Object.entries(networking?.EndpointsConfig ?? {}).map(([key, value]) => [key, value ?? {}] as const);
  return {
    name,
    config: runConfig(config),
    hostConfig: hostConfigOf(host ?? {}),
    networks: Object.fromEntries(networks),
  };
}

/** A config without the members that were null. */
export function runConfig(config: z.infer<typeof configBody>): RunConfig {
  return given(config) as RunConfig;
}

/** A HostConfig without the members that were null. */
export function hostConfigOf(host: Readonly<Record<string, unknown>>): HostConfig {
  return given(host) as HostConfig;
}
