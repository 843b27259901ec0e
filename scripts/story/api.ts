/** The few calls of the Docker Engine API that the story makes, over the engine's own socket. */
import { request } from "node:http";

export type Call = {
  readonly method?: "GET" | "POST" | "DELETE" | "PUT";
  readonly body?: object | Uint8Array;
};

export type Api = {
  /** Resolves with the decoded JSON (or text); rejects with the engine's own message. */
  readonly call: (path: string, call?: Call) => Promise<unknown>;
  /** Runs a command in a container and resolves with what it printed. */
  readonly exec: (container: string, command: readonly string[]) => Promise<string>;
  readonly socketPath: string;
};

function decode(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** One request; the answer is collected whole (answers of the story are small). */
function send(
  socketPath: string,
  path: string,
  { method = "GET", body }: Call,
): Promise<{ status: number; data: Buffer }> {
  const raw = body instanceof Uint8Array;
  const payload = body === undefined ? undefined : raw ? body : Buffer.from(JSON.stringify(body));
  const type = raw ? "application/x-tar" : "application/json";
  const headers = payload === undefined ? {} : { "Content-Type": type, "Content-Length": payload.length };
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: `/v1.45${path}`, method, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, data: Buffer.concat(parts) }));
      response.on("error", reject);
    });
    call.on("error", reject);
    call.end(payload);
  });
}

/** Takes the 8-byte frames off a multiplexed stream. */
function unframe(data: Buffer): string {
  let text = "";
  for (let at = 0; at + 8 <= data.length; ) {
    const length = data.readUInt32BE(at + 4);
    text += data.toString("utf8", at + 8, at + 8 + length);
    at += 8 + length;
  }
  return text;
}

export function openApi(socketPath: string): Api {
  const call: Api["call"] = async (path, options = {}) => {
    const { status, data } = await send(socketPath, path, options);
    const value = decode(data.toString("utf8"));
    if (status < 400) return value;
    const message = typeof value === "object" && value !== null && "message" in value ? value.message : value;
    throw new Error(`${options.method ?? "GET"} ${path}: ${status}: ${String(message)}`);
  };
  return {
    call,
    socketPath,
    exec: async (container, command) => {
      const body = { Cmd: command, AttachStdout: true, AttachStderr: true };
      const made = await call(`/containers/${container}/exec`, { method: "POST", body });
      const id = typeof made === "object" && made !== null && "Id" in made ? String(made.Id) : "";
      const { data } = await send(socketPath, `/exec/${id}/start`, {
        method: "POST",
        body: { Detach: false, Tty: false },
      });
      return unframe(data);
    },
  };
}
