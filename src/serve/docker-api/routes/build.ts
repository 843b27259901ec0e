/** `POST /build`: the classic builder over a streamed context; `/build/prune`, `/build/cancel`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { textList, textMap, textOrNullMap } from "../../../base/shape.ts";
import type { Builder, BuildOptions } from "../../../build/builder.ts";
import { bodyOf, decode } from "../body.ts";
import { type Query, queryOf } from "../query.ts";
import { refuse, sendJson } from "../respond.ts";
import { clientSignal, MessageStream } from "../stream.ts";

export type BuildServices = { readonly builder: Pick<Builder, "build">; readonly stopping: AbortSignal };

export function buildRoutes(app: FastifyInstance, services: BuildServices): void {
  app.post("/build", (request, reply) => build(services, request, reply));
  app.post("/build/prune", async (_request, reply) => {
    // the classic builder's cache is the images themselves: `image prune` takes them
    sendJson(reply, 200, { CachesDeleted: null, SpaceReclaimed: 0 });
  });
  app.post("/build/cancel", async () => refuse("builds have no id here: close the connection of a build to cancel it"));
}

/** Options that would be accepted and ignored, with what to do instead; what is no, or empty, asks for nothing. */
const refused: Readonly<Record<string, string>> = {
  remote: "building from a URL is not supported: send the context itself (docker build PATH)",
  session: "BuildKit sessions are not supported: set DOCKER_BUILDKIT=0 to use the classic builder",
  pull: "pull is not supported yet: leave --pull out",
  squash: "squash is not supported: leave --squash out",
  outputs: "build outputs are not supported: set DOCKER_BUILDKIT=0 and leave --output out",
  memswap: "the build option memswap is not supported: leave it out",
  cpuperiod: "the build option cpu-period is not supported: leave it out",
  cpuquota: "the build option cpu-quota is not supported: leave it out",
  cpusetcpus: "the build option cpuset-cpus is not supported: leave it out",
  cpusetmems: "the build option cpuset-mems is not supported: leave it out",
  cgroupparent: "the build option cgroup-parent is not supported: leave it out",
  ulimits: "the build option ulimit is not supported: leave it out",
  securityopt: "the build option security-opt is not supported: leave it out",
};

const emptyJson = new Set(["null", "[]", "{}"]);

function refuseOptions(query: Query): void {
  if (query.text("version") === "2")
    refuse("BuildKit is not supported: set DOCKER_BUILDKIT=0 to use the classic builder");
  for (const [name, sentence] of Object.entries(refused))
    if (query.flag(name) && !emptyJson.has(query.text(name))) refuse(sentence);
  const platform = query.text("platform");
  if (
    platform !== "" &&
    platform !== "linux" &&
    platform !== `linux/${process.arch === "x64" ? "amd64" : process.arch}`
  )
    refuse(`the platform ${platform} is not supported: images are built for this machine`);
}

function optionsOf(query: Query, signal: AbortSignal): BuildOptions {
  return {
    dockerfile: query.optional("dockerfile") ?? "Dockerfile",
    tags: query.list("t").filter((tag) => tag !== ""),
    buildArgs: decode(textOrNullMap, query.json("buildargs") ?? {}),
    labels: decode(textMap, query.json("labels") ?? {}),
    target: query.optional("target"),
    noCache: query.flag("nocache"),
    remove: query.flag("rm", true),
    forceRemove: query.flag("forcerm"),
    cacheFrom: decode(textList, query.json("cachefrom") ?? []),
    networkMode: query.optional("networkmode") ?? "default",
    extraHosts: query.list("extrahosts"),
    quiet: query.flag("q"),
    memory: query.integer("memory") ?? 0,
    cpuShares: query.integer("cpushares") ?? 0,
    shmSize: query.integer("shmsize") ?? 0,
    signal,
  };
}

async function build(
  { builder, stopping }: BuildServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const query = queryOf(request);
  refuseOptions(query);
  const options = optionsOf(query, clientSignal(reply, stopping));
  const messages = new MessageStream(reply);
  try {
    await builder.build(bodyOf(request.raw), options, messages.tell);
    messages.end();
  } catch (error) {
    messages.fail(error);
  }
}
