/**
 * Docker's volume plugin protocol, version 1: each call with its keys, the shape of its answer and the time it may take
 * (moby daemon/volume/drivers/proxy.go). `Err` in an answer is the plugin's refusal.
 */
import * as v from "valibot";
import { anyMap, looseObject, type Shape } from "../../base/shape.ts";
import { type PluginClient, PluginRefusal, printable } from "../../plugin/client.ts";

const text = v.nullish(v.string(), "");
const err = { Err: text };
const described = looseObject({ Name: text, Mountpoint: text, CreatedAt: text, Status: v.nullish(anyMap) });

const shapes = {
  done: looseObject(err),
  place: looseObject({ ...err, Mountpoint: text }),
  one: looseObject({ ...err, Volume: v.nullish(described) }),
  all: looseObject({ ...err, Volumes: v.nullish(v.array(v.nullable(described))) }),
  capabilities: looseObject({ ...err, Capabilities: v.nullish(looseObject({ Scope: text })) }),
};

export type PluginVolume = v.InferOutput<typeof described>;

/** Milliseconds: for what makes or mounts, and for everything else. */
export type Deadlines = { readonly long: number; readonly short: number };

export const dockerDeadlines: Deadlines = { long: 120_000, short: 60_000 };

type Verb = { readonly method: string; readonly long?: boolean; readonly repeatable?: boolean };

export class VolumeProtocol {
  readonly client: PluginClient;
  readonly #deadlines: Deadlines;

  constructor(client: PluginClient, deadlines: Deadlines = dockerDeadlines) {
    this.client = client;
    this.#deadlines = deadlines;
  }

  async create(name: string, options: Readonly<Record<string, string>>): Promise<void> {
    const Opts = Object.keys(options).length === 0 ? null : options;
    await this.#ask({ method: "Create", long: true }, { Name: name, Opts }, shapes.done);
  }

  async remove(name: string): Promise<void> {
    await this.#ask({ method: "Remove" }, { Name: name }, shapes.done);
  }

  /** Resolves to the mount point as the plugin wrote it. */
  async mount(name: string, id: string): Promise<string> {
    return (await this.#ask({ method: "Mount", long: true }, { Name: name, ID: id }, shapes.place)).Mountpoint;
  }

  async unmount(name: string, id: string): Promise<void> {
    await this.#ask({ method: "Unmount" }, { Name: name, ID: id }, shapes.done);
  }

  /** Undefined: the plugin has no such volume. */
  async get(name: string, signal?: AbortSignal): Promise<PluginVolume | undefined> {
    const verb = { method: "Get", repeatable: true };
    return (await this.#ask(verb, { Name: name }, shapes.one, signal)).Volume ?? undefined;
  }

  async list(signal?: AbortSignal): Promise<readonly PluginVolume[]> {
    const { Volumes } = await this.#ask({ method: "List", repeatable: true }, {}, shapes.all, signal);
    return (Volumes ?? []).filter((volume) => volume !== null);
  }

  /** Plugins need not have the call; what they say else is `local`. */
  async scope(signal?: AbortSignal): Promise<"local" | "global"> {
    const verb = { method: "Capabilities", repeatable: true };
    const { Capabilities } = await this.#ask(verb, {}, shapes.capabilities, signal);
    return Capabilities?.Scope.toLowerCase() === "global" ? "global" : "local";
  }

  async #ask<T extends { readonly Err: string }>(
    { method, long = false, repeatable = false }: Verb,
    body: object,
    shape: Shape<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const deadline = long ? this.#deadlines.long : this.#deadlines.short;
    const call = { method: `VolumeDriver.${method}`, body, shape, deadline, repeatable, signal };
    const answer = await this.client.call(call);
    if (answer.Err !== "") throw new PluginRefusal(printable(answer.Err));
    return answer;
  }
}
