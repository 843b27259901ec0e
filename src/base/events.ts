/**
 * What happened, in Docker's words (`docker events`): a bounded memory of the latest and a live stream.
 * Secrets never enter: an event carries names, ids and labels only.
 */
export type EventType = "container" | "image" | "volume" | "network" | "daemon" | "builder";

export type EngineEvent = {
  readonly type: EventType;
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch, with a fraction. */
  readonly time: number;
};

export type EventListener = (event: EngineEvent) => void;

const kept = 256;

/** Keeps the latest 256 events, as dockerd does, and tells listeners of each new one, in order. */
export class EventBus {
  readonly #recent: EngineEvent[] = [];
  readonly #listeners = new Set<EventListener>();

  emit(type: EventType, action: string, id: string, attributes: Readonly<Record<string, string>> = {}): void {
    const event: EngineEvent = { type, action, id, attributes, time: performance.timeOrigin + performance.now() };
    this.#recent.push(event);
    if (this.#recent.length > kept) this.#recent.shift();
    for (const listener of this.#listeners) listener(event);
  }

  recent(): readonly EngineEvent[] {
    return [...this.#recent];
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
