/**
 * Asks an S3 server for the first name in a bucket, signed as AWS wants it (Signature Version 4), so that a wrong key,
 * bucket or address is known before anything is mounted: rclone itself shows such a bucket as an empty directory.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
import { createHash, createHmac } from "node:crypto";
import { EngineError, systemCode } from "../../base/errors.ts";
import { request } from "../../base/node-http.ts";
import type { S3Options } from "./options.ts";

export type S3Keys = { readonly access: string; readonly secret: string };
type Answer = { readonly status: number; readonly text: string };

const deadline = 20_000;
const mostRead = 64 * 1024;

export const endpointOf = ({ endpoint, region }: S3Options): string => endpoint ?? `https://s3.${region}.amazonaws.com`;

/** Throws not_found, forbidden or unavailable, in words without the keys. */
export async function probeBucket(options: S3Options, keys: S3Keys, signal: AbortSignal | undefined): Promise<void> {
  const { bucket, prefix } = options;
  const query = `list-type=2&max-keys=1&prefix=${encoded(prefix === "" ? "" : `${prefix}/`)}`;
  const url = new URL(`${endpointOf(options)}/${bucket}?${query}`);
  const headers = signed({ url, query, region: options.region }, keys);
  const limits = [AbortSignal.timeout(deadline), ...(signal === undefined ? [] : [signal])];
  let answer: Answer;
  try {
    answer = await get(url, headers, AbortSignal.any(limits));
  } catch (error) {
    signal?.throwIfAborted();
    const why = systemCode(error) ?? (error instanceof Error ? error.name : "unknown reason");
    throw new EngineError("unavailable", `the S3 server ${url.origin} does not answer: ${why}`);
  }
  refuse(answer, options);
}

function refuse({ status, text }: Answer, options: S3Options): void {
  const { bucket, region } = options;
  const server = endpointOf(options);
  if (status === 200) return;
  const code = /<Code>([A-Za-z0-9]{1,60})<\/Code>/.exec(text)?.[1] ?? `status ${status}`;
  if (status === 404)
    throw new EngineError("not_found", `there is no bucket ${bucket} on ${server} (${code}); make it first`);
  if (status === 401 || status === 403)
    throw new EngineError("forbidden", `${server} does not let these keys into the bucket ${bucket} (${code})`);
  if (status === 301 || status === 307 || code === "AuthorizationHeaderMalformed")
    throw new EngineError(
      "invalid_argument",
      `the bucket ${bucket} is not in the region ${region} (${code}); give its own`,
    );
  throw new EngineError("unavailable", `${server} cannot serve the bucket ${bucket} (${code})`);
}

function get(url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Answer> {
  const ask = url.protocol === "https:" ? secureRequest() : request;
  return new Promise((resolve, reject) => {
    const call = ask(url, { headers: { ...headers }, signal }, (response) => {
      let text = "";
      const end = (): void => resolve({ status: response.statusCode ?? 500, text });
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length < mostRead) return;
        end();
        response.destroy();
      });
      response.on("end", end);
      response.on("error", reject);
    });
    call.on("error", reject);
    call.end();
  });
}

/** Trusts whom the machine trusts, as rclone does. */
function secureRequest(): typeof request {
  const https = process.getBuiltinModule("node:https");
  const tls = process.getBuiltinModule("node:tls");
  const ca = [...tls.getCACertificates("default"), ...tls.getCACertificates("system")];
  return ((url: URL, options: object, onAnswer: never) =>
    https.request(url, { ...options, ca }, onAnswer)) as typeof request;
}

type Question = { readonly url: URL; readonly query: string; readonly region: string };

function signed({ url, query, region }: Question, keys: S3Keys): Readonly<Record<string, string>> {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${time.slice(0, 8)}/${region}/s3/aws4_request`;
  const body = createHash("sha256").update("").digest("hex");
  const headers = { host: url.host, "x-amz-content-sha256": body, "x-amz-date": time };
  const names = Object.keys(headers).join(";");
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const canonical = ["GET", encoded(url.pathname, "/"), query, lines.join(""), names, body].join("\n");
  const text = ["AWS4-HMAC-SHA256", time, scope, createHash("sha256").update(canonical).digest("hex")].join("\n");
  const key = scope.split("/").reduce<string | Buffer>((before, word) => hmac(before, word), `AWS4${keys.secret}`);
  const signature = hmac(key, text).toString("hex");
  const authorization = `AWS4-HMAC-SHA256 Credential=${keys.access}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
  return { ...headers, authorization };
}

const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/** RFC 3986; `kept` stays as it is. */
const encoded = (text: string, kept = ""): string =>
  encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll(encodeURIComponent(kept), kept);
