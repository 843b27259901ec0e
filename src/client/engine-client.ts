/**
 * A small typed client of the engine over its unix socket. Answers are decoded by the caller's schema-like function;
 * refusals come back as the engine's own errors, by the one status table read backwards.
 */
import { EngineError, type ErrorCode, httpStatus, systemCode } from "../base/errors.ts";
import { request } from "../base/node-http.ts";

export const defaultSocket = "/run/strata/strata.sock";

const codes = new Map<number, ErrorCode>(
  Object.entries(httpStatus).map(([code, status]) => [status, code as ErrorCode]),
);
codes.set(500, "internal");

export type EngineClient = {
  readonly get: (path: string) => Promise<unknown>;
  /** Without a body; waits as long as the engine works. */
  readonly post: (path: string) => Promise<unknown>;
};

/** `host` is `unix:///path`. Throws invalid_argument for anything else. */
export function openClient(host: string = `unix://${defaultSocket}`): EngineClient {
  if (!host.startsWith("unix:///"))
    throw new EngineError("invalid_argument", `invalid host ${host}: strata reaches an engine over unix:///path`);
  const socketPath = host.slice("unix://".length);
  return {
    get: (path) => ask({ socketPath, path, method: "GET", timeout: 30_000 }),
    post: (path) => ask({ socketPath, path, method: "POST", timeout: 0 }),
  };
}

type Question = {
  readonly socketPath: string;
  readonly path: string;
  readonly method: "GET" | "POST";
  readonly timeout: number;
};

function ask(question: Question): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request(question, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
      });
      response.on("error", reject);
      response.on("end", () => {
        try {
          resolve(answerOf(response.statusCode ?? 500, text));
        } catch (error) {
          reject(error);
        }
      });
    });
    call.on("timeout", () => call.destroy(new EngineError("deadline_exceeded", "the engine does not answer")));
    call.on("error", (error) => reject(unreachable(error, question.socketPath)));
    call.end();
  });
}

function answerOf(status: number, text: string): unknown {
  const value: unknown = text === "" ? undefined : JSON.parse(text);
  if (status < 400) return value;
  const told =
    typeof value === "object" && value !== null && "message" in value ? String(value.message) : `status ${status}`;
  throw new EngineError(codes.get(status) ?? "internal", told);
}

function unreachable(error: Error, socketPath: string): Error {
  const code = systemCode(error);
  if (code !== "ENOENT" && code !== "ECONNREFUSED") return error;
  const sentence = `no engine answers on unix://${socketPath}: start one with "strata daemon", or name another with --host`;
  return new EngineError("unavailable", sentence, { cause: error });
}
