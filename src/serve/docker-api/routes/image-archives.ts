/** Images in and out as tars: `POST /images/create?fromSrc=-` (import), `/images/load`, `/images/get` and `/images/{name}/get`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import type { TransferService } from "../../../transfer/transfer.ts";
import { bodyOf } from "../body.ts";
import { type Query, queryOf } from "../query.ts";
import { refuse } from "../respond.ts";
import { clientSignal, MessageStream, sendBytes } from "../stream.ts";

export type ImageArchiveServices = {
  readonly transfer: Pick<TransferService, "importImage" | "load" | "save">;
  readonly stopping: AbortSignal;
};

export function imageArchiveRoutes(app: FastifyInstance, services: ImageArchiveServices): void {
  app.post("/images/create", (request, reply) => create(services, request, reply));
  app.post("/images/load", (request, reply) => load(services, request, reply));
  app.get("/images/get", (request, reply) => {
    const names = queryOf(request).list("names");
    if (names.length === 0) throw new EngineError("invalid_argument", "no image was named: give names=");
    return sendSaved(services, names, reply);
  });
}

async function create(
  { transfer, stopping }: ImageArchiveServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const query = queryOf(request);
  if (query.has("fromImage"))
    refuse("pull is not supported yet: Strata talks to no registry; use docker load or docker import");
  const source = query.text("fromSrc");
  if (source !== "-")
    refuse(`import from ${source || "nothing"} is not supported: send the archive itself (docker import - or a file)`);
  const messages = new MessageStream(reply);
  try {
    const id = await transfer.importImage(bodyOf(request.raw), {
      reference: referenceOf(query),
      message: query.text("message"),
      changes: query.list("changes"),
      platform: query.optional("platform"),
      signal: clientSignal(reply, stopping),
    });
    messages.tell({ status: id });
    messages.end();
  } catch (error) {
    messages.fail(error);
  }
}

function referenceOf(query: Query): string | undefined {
  const repository = query.optional("repo");
  const tag = query.optional("tag");
  return repository === undefined || tag === undefined ? repository : `${repository}:${tag}`;
}

async function load(
  { transfer, stopping }: ImageArchiveServices,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const quiet = queryOf(request).flag("quiet");
  const messages = new MessageStream(reply);
  const progress = (message: object): void => {
    if (!quiet || !("progressDetail" in message)) messages.tell(message);
  };
  try {
    await transfer.load(bodyOf(request.raw), progress, clientSignal(reply, stopping));
    messages.end();
  } catch (error) {
    // As dockerd does, and SDKs look for: a load's failure is never a status.
    messages.failInside(error);
  }
}

/** One tar with the named images. */
export async function sendSaved(
  services: ImageArchiveServices,
  names: readonly string[],
  reply: FastifyReply,
): Promise<void> {
  const signal = clientSignal(reply, services.stopping);
  const headers = { "Content-Type": "application/x-tar" };
  await sendBytes(reply, services.transfer.save(names, signal), { signal, headers });
}
