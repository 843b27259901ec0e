/**
 * Calls to one plugin by name. What is lost on the way is tried again for a moment, since a plugin may be starting; what
 * changes something is only repeated when the plugin cannot have seen it. A call that got no answer in time closes the
 * way to the plugin for a while: the next ones fail at once, until it has answered a question that changes nothing.
 */
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { decodeShape, looseObject, type Shape, textList } from "../base/shape.ts";
import type { PluginAddress } from "./address.ts";
import { findPlugin, type PluginFolders } from "./discovery.ts";
import { type Answer, AnswerTooLarge, post, TransportError } from "./transport.ts";

export type PluginCall<T> = {
  /** `VolumeDriver.Create`. */
  readonly method: string;
  /** Undefined: an empty body. */
  readonly body?: object;
  readonly shape: Shape<T>;
  /** Milliseconds for an answer. */
  readonly deadline: number;
  /** May be done twice without harm. */
  readonly repeatable: boolean;
  /** A look by somebody who has others to ask: one try, until this aborts. */
  readonly signal?: AbortSignal | undefined;
};

export type PluginPatience = {
  /** Milliseconds in which a plugin that cannot be reached is tried again. */
  readonly retry: number;
  /** Milliseconds for which a plugin that did not answer is left alone. */
  readonly rest: number;
  /** Milliseconds for the question whether it answers again. */
  readonly trial: number;
};

export type PluginSettings = {
  readonly patience?: PluginPatience | undefined;
  /** Aborts when the engine closes: what is under way is given up then, and nothing new is asked. */
  readonly closing?: AbortSignal | undefined;
};

export const usualPatience: PluginPatience = { retry: 1500, rest: 10_000, trial: 1500 };

/** What the plugin said itself: it was reached, and nothing is uncertain. */
export class PluginRefusal extends EngineError {
  constructor(message: string) {
    super("internal", message);
    this.name = "PluginRefusal";
  }
}

const firstWait = 100;
/** Most characters of a plugin's words in a message. */
const longestText = 4096;

const activated = looseObject({ Implements: textList });
const refusal = looseObject({ Err: v.string() });

export class PluginClient {
  readonly name: string;
  readonly #folders: PluginFolders;
  readonly #patience: PluginPatience;
  /** Until when (performance.now()) it is left alone: by everybody, and by looks. */
  #closedUntil = 0;
  #noLooksUntil = 0;
  /** It did not answer, and has not since. */
  #doubted = false;
  #trial: Promise<void> | undefined;
  readonly #closing: AbortSignal | undefined;

  constructor(name: string, folders: PluginFolders, { patience = usualPatience, closing }: PluginSettings = {}) {
    this.name = name;
    this.#folders = folders;
    this.#patience = patience;
    this.#closing = closing;
  }

  /** What the plugin says it is: `VolumeDriver`, ... */
  async activate(signal?: AbortSignal): Promise<readonly string[]> {
    const { retry, trial } = this.#patience;
    const method = "Plugin.Activate";
    const call = { method, shape: activated, deadline: Math.max(retry, trial), repeatable: true, signal };
    return (await this.call(call)).Implements;
  }

  /** Throws unavailable (also when there is no such plugin: it may come back), deadline_exceeded, and internal with what the plugin said. */
  async call<T>(call: PluginCall<T>): Promise<T> {
    await this.#admit(call.signal !== undefined);
    const answer = await this.#answer(call);
    this.#doubted = false;
    this.#closedUntil = 0;
    this.#noLooksUntil = 0;
    if (answer.status !== 200) throw new PluginRefusal(`${call.method}: ${refusalOf(answer.text)}`);
    return this.#decode(call, answer.text);
  }

  async #admit(look: boolean): Promise<void> {
    const wait = Math.max(this.#closedUntil, look ? this.#noLooksUntil : 0) - performance.now();
    if (wait > 0)
      throw new EngineError(
        "unavailable",
        `plugin ${JSON.stringify(this.name)} does not answer; it is asked again in ${Math.ceil(wait / 1000)} s`,
      );
    if (!this.#doubted || look) return;
    this.#trial ??= this.#try().finally(() => {
      this.#trial = undefined;
    });
    await this.#trial;
  }

  /** One small question before anything that may take minutes. */
  async #try(): Promise<void> {
    const call = { method: "Plugin.Activate", shape: activated, deadline: this.#patience.trial, repeatable: true };
    await this.#answer(call);
    this.#doubted = false;
  }

  async #answer<T>(call: PluginCall<T>): Promise<Answer> {
    const end = AbortSignal.timeout(call.deadline);
    const signal = AbortSignal.any([end, call.signal, this.#closing].filter((one) => one !== undefined));
    const path = `/${call.method}`;
    const body = call.body === undefined ? "" : `${JSON.stringify(call.body)}\n`;
    try {
      return await this.#post(call, (address) => post(address, { path, body, signal }));
    } catch (error) {
      if (error instanceof AnswerTooLarge)
        throw this.#failure("internal", `plugin NAME answered ${call.method} with too much: ${error.message}`, error);
      if (!signal.aborted) throw error;
      if (this.#closing?.aborted === true)
        throw this.#failure(
          "unavailable",
          `plugin NAME was not waited for in ${call.method}: the engine closes`,
          error,
        );
      this.#rest(end.aborted);
      throw this.#failure("deadline_exceeded", `plugin NAME did not answer ${call.method} in time`, error);
    }
  }

  /** Nobody waits again for what has just let somebody wait. */
  #rest(all: boolean): void {
    const until = performance.now() + this.#patience.rest;
    this.#noLooksUntil = until;
    if (!all) return;
    this.#closedUntil = until;
    this.#doubted = true;
  }

  async #post<T>(call: PluginCall<T>, send: (address: PluginAddress) => Promise<Answer>): Promise<Answer> {
    const started = performance.now();
    for (let wait = firstWait; ; wait *= 2) {
      const address = await findPlugin(this.name, this.#folders);
      const failure = address === undefined ? this.#missing() : await attempt(send, address);
      if (!(failure instanceof Error)) return failure;
      const lost = failure instanceof TransportError;
      const again = !lost || failure.unsent || call.repeatable;
      const late = performance.now() - started + wait >= this.#patience.retry;
      if (again && !late && call.signal === undefined) await sleep(wait);
      else if (!lost) throw failure;
      else
        throw this.#failure(
          "unavailable",
          `plugin NAME cannot be reached: ${failure.message}; start it, then try again`,
          failure,
        );
    }
  }

  #missing(): EngineError {
    return new EngineError("unavailable", `plugin ${JSON.stringify(this.name)} not found`);
  }

  #failure(code: EngineError["code"], text: string, cause: unknown): EngineError {
    return new EngineError(
      code,
      text.replace("NAME", () => JSON.stringify(this.name)),
      { cause },
    );
  }

  #decode<T>(call: PluginCall<T>, text: string): T {
    const wrong = (problem: string): EngineError =>
      new EngineError("internal", `plugin ${JSON.stringify(this.name)} answered ${call.method} wrongly: ${problem}`);
    const value = parsed(text);
    if (value === undefined) throw wrong("it is not JSON");
    const decoded = decodeShape(call.shape, value);
    if (!decoded.ok) throw wrong(`${decoded.path}: ${decoded.problem}`);
    return decoded.value;
  }
}

/** The answer, or how it was lost. */
async function attempt(
  send: (address: PluginAddress) => Promise<Answer>,
  address: PluginAddress,
): Promise<Answer | TransportError> {
  try {
    return await send(address);
  } catch (error) {
    if (error instanceof TransportError) return error;
    throw error;
  }
}

/** What a plugin says with another status than 200: `{"Err": text}`, or just text. */
function refusalOf(text: string): string {
  const decoded = decodeShape(refusal, parsed(text));
  return printable(decoded.ok && decoded.value.Err !== "" ? decoded.value.Err : text.trim());
}

/** Undefined for what is not JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A stranger's words, fit for a message. */
export function printable(text: string): string {
  const cut = text.length > longestText ? `${text.slice(0, longestText)}...` : text;
  return cut.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "?");
}
