/**
 * Bodies that make or change containers, decoded. JSON's null counts as not given, as in Go; members that the engine
 * does not know pass through, and the container service refuses those that ask for something.
 */
import * as v from "valibot";
import type { RunConfig } from "../../base/oci.ts";
import {
  integer as anyInteger,
  words as anyWords,
  looseObject,
  objectMap,
  objectOrNullMap,
  textList,
  textMap,
} from "../../base/shape.ts";
import type { HostConfig, NewContainer } from "../../container/container.ts";
import { refuseEndpointOptions } from "./network-json.ts";

const text = v.nullish(v.string());
const flag = v.nullish(v.boolean());
const integer = v.nullish(anyInteger);
const texts = v.nullish(textList);
const map = v.nullish(textMap);
const words = v.nullish(anyWords);
/** Not given is the empty text. */
const textOrEmpty = v.optional(v.string(), "");

/** Leaves out what was null, so that `undefined` inside means not given. */
function given<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null && member !== undefined)) as T;
}

/** An object, or not given; in it what is null is not given either. */
const part = <E extends v.ObjectEntries>(entries: E) => v.nullish(v.pipe(looseObject(entries), v.transform(given)));

const healthcheck = v.nullish(
  looseObject({
    Test: texts,
    Interval: integer,
    Timeout: integer,
    StartPeriod: integer,
    StartInterval: integer,
    Retries: integer,
  }),
);

const configMembers = {
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: v.nullish(objectMap),
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: texts,
  Cmd: words,
  Healthcheck: healthcheck,
  ArgsEscaped: flag,
  Image: text,
  Volumes: v.nullish(objectMap),
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

const mount = v.pipe(
  looseObject({
    Type: textOrEmpty,
    Source: text,
    Target: textOrEmpty,
    ReadOnly: flag,
    Consistency: text,
    BindOptions: part({
      Propagation: text,
      NonRecursive: flag,
      CreateMountpoint: flag,
      ReadOnlyNonRecursive: flag,
      ReadOnlyForceRecursive: flag,
    }),
    VolumeOptions: part({
      NoCopy: flag,
      Labels: map,
      Subpath: text,
      DriverConfig: part({ Name: text, Options: map }),
    }),
    TmpfsOptions: part({ SizeBytes: integer, Mode: integer, Options: v.nullish(v.array(textList)) }),
  }),
  v.transform(given),
);

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
  Ulimits: v.nullish(v.array(looseObject({ Name: v.string(), Soft: anyInteger, Hard: anyInteger }))),
  Devices: v.nullish(
    v.array(looseObject({ PathOnHost: v.string(), PathInContainer: v.string(), CgroupPermissions: v.string() })),
  ),
  RestartPolicy: v.nullish(looseObject({ Name: textOrEmpty, MaximumRetryCount: v.optional(anyInteger, 0) })),
};

const hostConfig = looseObject({
  ...resources,
  Binds: texts,
  Mounts: v.nullish(v.array(mount)),
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
  LogConfig: v.nullish(looseObject({ Type: textOrEmpty, Config: map })),
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

const endpoints = v.nullish(objectOrNullMap);

/** `POST /containers/create`. */
export const createBody = looseObject({
  ...configMembers,
  HostConfig: v.nullish(hostConfig),
  NetworkingConfig: v.nullish(looseObject({ EndpointsConfig: endpoints })),
});

/** `POST /commit`. */
export const configBody = looseObject(configMembers);

/** `POST /containers/{id}/update`. */
export const updateBody = looseObject(resources);

/** The decoded body as the container service takes it. */
export function newContainer(body: v.InferOutput<typeof createBody>, name: string | undefined): NewContainer {
  const { HostConfig: host, NetworkingConfig: networking, ...config } = body;
  const networks = Object.entries(networking?.EndpointsConfig ?? {}).map(([key, value]) => [key, value ?? {}] as const);
  for (const [, endpoint] of networks) refuseEndpointOptions(endpoint as Readonly<Record<string, unknown>>);
  return {
    name,
    config: runConfig(config),
    hostConfig: hostConfigOf(host ?? {}),
    networks: Object.fromEntries(networks),
  };
}

/** A config without the members that were null. */
export function runConfig(config: v.InferOutput<typeof configBody>): RunConfig {
  return given(config) as RunConfig;
}

/** A HostConfig without the members that were null. */
export function hostConfigOf(host: Readonly<Record<string, unknown>>): HostConfig {
  return given(host) as HostConfig;
}
