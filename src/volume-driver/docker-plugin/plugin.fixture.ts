/** A Docker volume plugin of a test: http on a unix socket, volumes in memory, data in a folder; it notes every call. */
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import { dirname, join } from "node:path";

export type SeenCall = { readonly method: string; readonly body: string; readonly headers: IncomingHttpHeaders };
export type Behaviour = (given: {
  readonly body: Record<string, unknown>;
  readonly response: ServerResponse;
}) => unknown;

/** What outlives the plugin's process. */
export type PluginState = {
  readonly volumes: Map<string, Record<string, string> | null>;
  /** Volume -> ids; as a multiset, so that an id given twice is seen. */
  readonly mounts: Map<string, string[]>;
};

export type TestPlugin = AsyncDisposable & {
  readonly calls: SeenCall[];
  readonly state: PluginState;
  /** Method without `VolumeDriver.` -> what it does instead. Undefined as an answer: none ever. */
  readonly behaviour: Map<string, Behaviour>;
  readonly methods: () => string[];
  readonly stop: () => Promise<void>;
};

export const newState = (): PluginState => ({ volumes: new Map(), mounts: new Map() });

export async function startPlugin(options: {
  readonly socket: string;
  readonly data: string;
  readonly state?: PluginState;
}): Promise<TestPlugin> {
  const { socket, data, state = newState() } = options;
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true });
  const calls: SeenCall[] = [];
  const behaviour = new Map<string, Behaviour>();
  const usual = usualBehaviour(state, data);
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += chunk;
    const method = (request.url ?? "").replace(/^\//, "");
    calls.push({ method, body, headers: request.headers });
    const name = method.replace(/^VolumeDriver\./, "");
    const act = behaviour.get(name) ?? usual[name];
    const answer = act?.({ body: body === "" ? {} : JSON.parse(body), response });
    if (answer !== undefined && !response.headersSent) response.end(JSON.stringify(answer));
  });
  server.listen(socket);
  await once(server, "listening");
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
  const methods = (): string[] => calls.map(({ method }) => method.replace("VolumeDriver.", ""));
  return { calls, state, behaviour, methods, stop, [Symbol.asyncDispose]: stop };
}

function usualBehaviour({ volumes, mounts }: PluginState, data: string): Record<string, Behaviour> {
  const unknown = (response: ServerResponse): object => {
    response.statusCode = 500;
    return { Err: "no such volume" };
  };
  const describe = (name: string): object => ({
    Name: name,
    Mountpoint: mounts.get(name)?.length ? join(data, name) : "",
    CreatedAt: "2020-01-02T03:04:05Z",
    Status: { healthy: true },
  });
  return {
    "Plugin.Activate": () => ({ Implements: ["VolumeDriver"] }),
    Capabilities: () => ({ Capabilities: { Scope: "Global" } }),
    Create: ({ body }) => {
      const name = String(body.Name);
      const options = body.Opts as Record<string, string> | null;
      if (options !== null && "no-such-option" in options) return { Err: "no-such-option" };
      if (!volumes.has(name)) volumes.set(name, options);
      mkdirSync(join(data, name), { recursive: true });
      return { Err: "" };
    },
    Remove: ({ body }) => {
      volumes.delete(String(body.Name));
      rmSync(join(data, String(body.Name)), { recursive: true, force: true });
      return { Err: "" };
    },
    Mount: ({ body, response }) => {
      const name = String(body.Name);
      if (!volumes.has(name)) return unknown(response);
      mounts.set(name, [...(mounts.get(name) ?? []), String(body.ID)]);
      return { Mountpoint: join(data, name), Err: "" };
    },
    Unmount: ({ body, response }) => {
      const held = mounts.get(String(body.Name)) ?? [];
      const at = held.indexOf(String(body.ID));
      if (at < 0) return unknown(response);
      mounts.set(
        String(body.Name),
        held.filter((_, index) => index !== at),
      );
      return { Err: "" };
    },
    Path: ({ body }) => ({ Mountpoint: join(data, String(body.Name)), Err: "" }),
    Get: ({ body, response }) =>
      volumes.has(String(body.Name)) ? { Volume: describe(String(body.Name)), Err: "" } : unknown(response),
    List: () => ({ Volumes: [...volumes.keys()].map(describe), Err: "" }),
  };
}
