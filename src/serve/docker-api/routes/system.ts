/** `/version`, `/info`, `/system/df`, and what Strata has no registry for: `/auth`, `/distribution`, `/session`. */
import type { FastifyInstance } from "fastify";
import * as v from "valibot";
import { EngineError } from "../../../base/errors.ts";
import { engineVersion } from "../../../base/version.ts";
import { apiVersion, minApiVersion, versionOf } from "../api-version.ts";
import { readOptionalJson } from "../body.ts";
import { summaryJson } from "../container-json.ts";
import { hostFacts } from "../host-facts.ts";
import { imageSummaryJson } from "../image-json.ts";
import { infoJson } from "../info-json.ts";
import { queryOf } from "../query.ts";
import { refuse, sendJson } from "../respond.ts";
import { allContainers, type EngineFacts, type SystemServices } from "../system-services.ts";
import { volumeUsageJson } from "../volume-json.ts";

export function systemRoutes(app: FastifyInstance, services: SystemServices): void {
  app.get("/version", async (_request, reply) => sendJson(reply, 200, versionJson(services.facts)));
  app.get("/info", async (_request, reply) => sendJson(reply, 200, await infoJson(services)));
  app.get("/system/df", async (request, reply) => {
    const types = queryOf(request).list("type");
    sendJson(reply, 200, await usageJson(services, types, versionOf(request.raw)));
  });
  app.post("/auth", async (request) => {
    await readOptionalJson(request.raw, v.unknown());
    refuse("login is not supported yet: Strata talks to no registry");
  });
  app.get("/distribution/*", async () =>
    refuse("distribution inspect is not supported yet: Strata talks to no registry"),
  );
  app.post("/session", async () =>
    refuse("BuildKit sessions are not supported: set DOCKER_BUILDKIT=0 to use the classic builder"),
  );
}

function versionJson({ programs }: EngineFacts): object {
  const host = hostFacts();
  const engine = {
    Version: engineVersion,
    ApiVersion: apiVersion,
    MinAPIVersion: minApiVersion,
    GitCommit: "",
    GoVersion: "",
    Os: "linux",
    Arch: host.arch,
    KernelVersion: host.kernelVersion,
    BuildTime: "",
  };
  const details = {
    ApiVersion: apiVersion,
    Arch: host.arch,
    Experimental: "false",
    KernelVersion: host.kernelVersion,
    MinAPIVersion: minApiVersion,
    NodeVersion: process.version,
    Os: "linux",
  };
  const others = Object.entries(programs).map(([Name, Version]) => ({ Name, Version, Details: {} }));
  return {
    Platform: { Name: "Strata" },
    Components: [{ Name: "Engine", Version: engineVersion, Details: details }, ...others],
    ...engine,
  };
}

const usageTypes = ["container", "image", "volume", "build-cache"];

async function usageJson(services: SystemServices, types: readonly string[], version: string): Promise<object> {
  for (const type of types)
    if (!usageTypes.includes(type)) throw new EngineError("invalid_argument", `unknown object type: ${type}`);
  const wanted = (type: string): boolean => types.length === 0 || types.includes(type);
  const [containers, volumes] = await Promise.all([
    wanted("container") ? containersUsage(services) : null,
    wanted("volume") ? volumesUsage(services) : null,
  ]);
  return {
    LayersSize: wanted("image") ? services.imageViews.layersSize() : 0,
    Images: wanted("image") ? imagesUsage(services, version) : null,
    Containers: containers,
    Volumes: volumes,
    BuildCache: wanted("build-cache") ? [] : null,
  };
}

function imagesUsage({ imageViews, containers }: SystemServices, version: string): readonly object[] {
  const shared = imageViews.sharedSizes();
  const users = Map.groupBy(allContainers(containers), ({ imageId }) => imageId);
  return imageViews.list({ all: false, filters: {} }).map(({ image }) => {
    const figures = { containers: users.get(image.id)?.length ?? 0, sharedSize: shared.get(image.id) ?? 0 };
    return imageSummaryJson(image, figures, version);
  });
}

async function containersUsage({ containers, images }: SystemServices): Promise<readonly object[]> {
  const facts = { now: Date.now(), findImage: (name: string) => images.find(name) };
  return Promise.all(
    allContainers(containers).map(async (container) =>
      summaryJson(container, { ...facts, size: await containers.size(container.id) }),
    ),
  );
}

async function volumesUsage({ volumes }: SystemServices): Promise<readonly object[]> {
  const { volumes: all } = await volumes.list();
  return Promise.all(
    all.map(async (volume) =>
      volumeUsageJson(volume, await volumes.usage(volume.name), volumes.references(volume.name).length),
    ),
  );
}
