/**
 * `/strata/volumes/{name}/...`: what Docker's API has no word for. Long work answers with JSON messages as Docker's builds do
 * (`status` and `progressDetail`, at the end `aux` with the result, or `error`); a failure before the first keeps its status.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import * as v from "valibot";
import { EngineError } from "../../../base/errors.ts";
import { decodeShape, looseObject, textMap } from "../../../base/shape.ts";
import type {
  CopyReport,
  MigrateReport,
  NewVolumeOf,
  VolumeProgress,
  VolumeVerbs,
  VolumeWork,
} from "../../../volume/verbs.ts";
import { bodyOf, readJson } from "../body.ts";
import { pathPart, queryOf } from "../query.ts";
import { sendEmpty, sendJson } from "../respond.ts";
import { clientSignal, MessageStream, sendBytes } from "../stream.ts";
import { volumeJson } from "../volume-json.ts";

export type VolumeVerbServices = { readonly volumeVerbs: VolumeVerbs; readonly stopping: AbortSignal };

const texts = v.nullish(textMap);
const newBody = looseObject({
  Name: v.string(),
  Driver: v.nullish(v.string()),
  DriverOpts: texts,
  Labels: texts,
});
const migrateBody = looseObject({ Driver: v.string(), DriverOpts: texts });
const importMaps = looseObject({ DriverOpts: texts, Labels: texts });
const optionsBody = looseObject({ DriverOpts: texts });

const base = "/strata/volumes/:name";
const nameOf = (request: FastifyRequest): string => pathPart(request, "name");

export function volumeVerbRoutes(app: FastifyInstance, services: VolumeVerbServices): void {
  const { volumeVerbs: verbs } = services;
  snapshotRoutes(app, services);
  transferRoutes(app, services);
  app.post(`${base}/clone`, async (request, reply) => {
    const query = queryOf(request);
    const to = newVolume(await readJson(request.raw, newBody));
    const from = { name: nameOf(request), snapshot: query.optional("snapshot") };
    await streamed(services, { request, reply }, async (work) => {
      const { volume, report } = await verbs.clone(from, to, work);
      return { Volume: volumeJson(volume), Report: reportJson(report) };
    });
  });
  app.post(`${base}/migrate`, async (request, reply) => {
    const { Driver, DriverOpts } = await readJson(request.raw, migrateBody);
    const to = { driver: Driver, options: DriverOpts ?? {} };
    await streamed(services, { request, reply }, async (work) =>
      migratedJson(await verbs.migrate(nameOf(request), to, work)),
    );
  });
  app.delete(`${base}/migrate`, async (request, reply) => {
    await verbs.cancelMigration(nameOf(request));
    sendEmpty(reply, 204);
  });
  app.post(`${base}/rename`, async (request, reply) =>
    sendJson(reply, 200, volumeJson(await verbs.rename(nameOf(request), queryOf(request).text("name")))),
  );
  app.post(`${base}/update`, async (request, reply) => {
    const { DriverOpts } = await readJson(request.raw, optionsBody);
    sendJson(reply, 200, volumeJson(await verbs.update(nameOf(request), DriverOpts ?? {})));
  });
  app.post(`${base}/resize`, async (request, reply) =>
    sendJson(reply, 200, volumeJson(await verbs.resize(nameOf(request), queryOf(request).text("size")))),
  );
  app.get(`${base}/usage`, async (request, reply) => {
    const seconds = queryOf(request).integer("timeout");
    const signal = clientSignal(reply, services.stopping);
    const deadline = seconds === undefined ? {} : { deadline: seconds * 1000 };
    const size = await verbs.size(nameOf(request), { ...deadline, signal });
    sendJson(reply, 200, {
      Name: size.name,
      Driver: size.driver,
      Bytes: size.bytes ?? -1,
      Allocated: size.allocated ?? -1,
      Inodes: size.inodes ?? -1,
      ...(size.reason === undefined ? {} : { Reason: size.reason }),
    });
  });
  app.get(`${base}/users`, async (request, reply) => {
    const { name, users, usedAt } = await verbs.who(nameOf(request));
    sendJson(reply, 200, { Name: name, UsedAt: usedAt ?? null, Containers: users.map(userJson) });
  });
}

function snapshotRoutes(app: FastifyInstance, services: VolumeVerbServices): void {
  const { volumeVerbs: verbs } = services;
  const one = (request: FastifyRequest): readonly [string, string] => [nameOf(request), pathPart(request, "snapshot")];
  app.get(`${base}/snapshots`, async (request, reply) =>
    sendJson(reply, 200, (await verbs.listSnapshots(nameOf(request))).map(snapshotJson)),
  );
  app.post(`${base}/snapshots`, async (request, reply) => {
    const name = queryOf(request).optional("name");
    await streamed(services, { request, reply }, async (work) => {
      const { snapshot, report } = await verbs.createSnapshot(nameOf(request), name, work);
      return { Snapshot: snapshotJson(snapshot), Report: reportJson(report) };
    });
  });
  app.delete(`${base}/snapshots/:snapshot`, async (request, reply) => {
    await verbs.removeSnapshot(...one(request));
    sendEmpty(reply, 204);
  });
  app.post(`${base}/snapshots/:snapshot/restore`, async (request, reply) => {
    await streamed(services, { request, reply }, async (work) => ({
      Report: reportJson(await verbs.restoreSnapshot(...one(request), work)),
    }));
  });
}

function transferRoutes(app: FastifyInstance, services: VolumeVerbServices): void {
  const { volumeVerbs: verbs, stopping } = services;
  app.get(`${base}/export`, async (request, reply) => {
    const query = queryOf(request);
    const compress = query.optional("compress") ?? "none";
    if (compress !== "none" && compress !== "zst")
      throw new EngineError("invalid_argument", `invalid compress: ${JSON.stringify(compress)}; it is none or zst`);
    const signal = clientSignal(reply, stopping);
    const source = { name: nameOf(request), snapshot: query.optional("snapshot") };
    const progress = query.flag("progress") ? (at: VolumeProgress) => inform(reply, at) : undefined;
    const work = {
      compress,
      signal,
      pause: query.flag("pause"),
      ...(progress === undefined ? {} : { progress }),
    } as const;
    const bytes = verbs.export(source, work);
    const type = compress === "zst" ? "application/zstd" : "application/x-tar";
    await sendBytes(reply, bytes, { signal, headers: { "Content-Type": type } });
  });
  app.post(`${base}/import`, async (request, reply) => {
    const query = queryOf(request);
    const maps = decodeShape(importMaps, { DriverOpts: query.json("opts"), Labels: query.json("labels") });
    if (!maps.ok) throw new EngineError("invalid_argument", `invalid value for opts or labels: ${maps.problem}`);
    const to = newVolume({ Name: nameOf(request), Driver: query.optional("driver"), ...maps.value });
    const plain = query.flag("plain");
    const length = Number(request.headers["content-length"]);
    const totalBytes = Number.isSafeInteger(length) ? length : undefined;
    await streamed(services, { request, reply }, async (work) => {
      const { volume, entries, bytes } = await verbs.import(bodyOf(request.raw), to, { ...work, plain, totalBytes });
      return { Volume: volumeJson(volume), Entries: entries, Bytes: bytes };
    });
  });
}

/** What goes before the bytes of an answer can be told by answers of the status 102 only; Node has them since 26. */
function inform({ raw }: FastifyReply, at: VolumeProgress): void {
  if (raw.headersSent || raw.destroyed) return;
  raw.writeInformation?.(102, { "Strata-Progress": JSON.stringify(progressJson(at)) });
}

type Exchange = { readonly request: FastifyRequest; readonly reply: FastifyReply };

/** Answers with messages; `pause=0` in the query is the client's wish. */
async function streamed(
  { stopping }: VolumeVerbServices,
  { request, reply }: Exchange,
  run: (work: VolumeWork & { readonly signal: AbortSignal }) => Promise<object>,
): Promise<void> {
  const id = nameOf(request);
  const pause = queryOf(request).flag("pause", true);
  const messages = new MessageStream(reply);
  const progress = (at: VolumeProgress): void => messages.tell({ id, ...progressJson(at) });
  try {
    const result = await run({ signal: clientSignal(reply, stopping), progress, pause });
    messages.tell({ id, aux: result });
    messages.end();
  } catch (error) {
    messages.fail(error);
  }
}

const progressJson = ({ step, bytes, totalBytes, entries, totalEntries }: VolumeProgress) => ({
  status: step,
  progressDetail: { current: bytes, total: totalBytes, entries, totalEntries },
});

export const newVolume = (body: v.InferOutput<typeof newBody>): NewVolumeOf => ({
  name: body.Name,
  driver: body.Driver || undefined,
  options: body.DriverOpts ?? undefined,
  labels: body.Labels ?? undefined,
});

const reportJson = ({ cost, byStore, bytes, seconds, consistent }: CopyReport): object => ({
  Cost: cost,
  ByStore: byStore,
  Bytes: bytes ?? -1,
  Seconds: seconds,
  Consistent: consistent,
});

const migratedJson = (report: MigrateReport): object => ({
  From: report.from,
  To: report.to,
  Bytes: report.bytes,
  Stopped: report.stopped,
  Downtime: report.downtime,
  Seconds: report.seconds,
  ...(report.oldDataLeft === undefined ? {} : { OldDataLeft: report.oldDataLeft }),
});

const snapshotJson = (snapshot: Awaited<ReturnType<VolumeVerbs["listSnapshots"]>>[number]): object => ({
  Name: snapshot.name,
  CreatedAt: snapshot.createdAt,
  KeptBy: snapshot.keptBy,
  Bytes: snapshot.bytes ?? -1,
});

const userJson = (user: Awaited<ReturnType<VolumeVerbs["who"]>>["users"][number]): object => ({
  Id: user.id,
  Name: user.name,
  Status: user.status,
  Mounts: user.mounts.map(({ destination, readWrite }) => ({ Destination: destination, RW: readWrite })),
});
