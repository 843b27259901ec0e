/** `/events`: what happened (up to the last 256) and what happens, one JSON object a line. */
import type { FastifyInstance } from "fastify";
import { EngineError } from "../../../base/errors.ts";
import type { EngineEvent, EventBus } from "../../../base/events.ts";
import { eventFilters, eventLine, type Filters, matchesEvent } from "../event-json.ts";
import { queryOf } from "../query.ts";
import { clientSignal, sendBytes } from "../stream.ts";

export type EventServices = { readonly events: Pick<EventBus, "recent" | "subscribe">; readonly stopping: AbortSignal };

type Span = { readonly since: number | undefined; readonly until: number | undefined; readonly filters: Filters };

/** Events that a client has not read yet; one that stops reading is let go past this. */
const waitingLimit = 4096;

export function eventRoutes(app: FastifyInstance, { events, stopping }: EventServices): void {
  app.get("/events", async (request, reply) => {
    const query = queryOf(request);
    const span = { since: query.time("since"), until: query.time("until"), filters: query.filters() };
    for (const key of span.filters.keys())
      if (!eventFilters.has(key)) throw new EngineError("invalid_argument", `invalid filter '${key}'`);
    const signal = clientSignal(reply, stopping);
    const headers = { "Content-Type": "application/json" };
    await sendBytes(reply, eventBytes(events, span, signal), { signal, headers, early: true });
  });
}

/** Past events of the span, then live ones until `until`, or until the client goes. */
async function* eventBytes(
  events: EventServices["events"],
  { since, until, filters }: Span,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let waiting: EngineEvent[] = [];
  let wake = (): void => undefined;
  const end = events.subscribe((event) => {
    if (waiting.length < waitingLimit) waiting.push(event);
    wake();
  });
  const onAbort = (): void => wake();
  signal.addEventListener("abort", onAbort);
  let over = false;
  const expire = (): void => {
    over = true;
    wake();
  };
  const timer = until === undefined ? undefined : setTimeout(expire, untilThen(until));
  try {
    if (since !== undefined || until !== undefined)
      waiting = events.recent().filter((event) => event.time >= (since ?? 0));
    while (!signal.aborted) {
      const batch = waiting;
      waiting = [];
      const lines = batch
        .filter((event) => event.time <= (until ?? Infinity) && matchesEvent(event, filters))
        .map(eventLine);
      if (lines.length > 0) yield Buffer.from(lines.join(""));
      if (over || (until !== undefined && Date.now() >= until)) return;
      if (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    end();
  }
}

/** Milliseconds until a moment, as a timer takes them: a moment that has passed is now. */
function untilThen(moment: number): number {
  return Math.max(0, Math.min(moment - Date.now(), 2 ** 31 - 1));
}
