/** A real S3 server on loopback for tests: OpenStack Swift with its s3api, in one process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { succeed } from "./engine.ts";
import { freePort, listens } from "./ports.ts";

export type S3Server = AsyncDisposable & {
  readonly endpoint: string;
  /** Files with the keys, for root alone. */
  readonly accessKey: string;
  readonly secretKey: string;
  readonly secret: string;
  readonly makeBucket: (name: string) => Promise<void>;
  /** Names of the objects below a path `bucket/prefix`, or that there are none. */
  readonly list: (path: string) => Promise<readonly string[]>;
  readonly read: (path: string) => Promise<string>;
  /** It stops answering, and goes on. */
  readonly freeze: () => void;
  readonly thaw: () => void;
};

const python = "/usr/bin/python3";
export const swiftIsHere = existsSync("/usr/lib/python3/dist-packages/swift/common/middleware/s3api");

/** `folder` is the server's own, on a filesystem with extended attributes. */
export async function startS3(folder: string): Promise<S3Server> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const ports = [await freePort(), await freePort(), await freePort(), await freePort()];
  const log = openSync(join(folder, "log"), "w");
  const script = new URL("./swift-s3.py", import.meta.url).pathname;
  const child = spawn(python, [script, join(folder, "swift"), ...ports.map(String)], { stdio: ["ignore", log, log] });
  const ended = once(child, "exit");
  const port = ports[3] ?? 0;
  for (
    const end = performance.now() + 180_000;
    !(await listens(port));
    await new Promise((done) => setTimeout(done, 50))
  )
    if (child.exitCode !== null || performance.now() > end)
      throw new Error(`swift did not start:\n${readFileSync(join(folder, "log"), "utf8")}`);
  const [accessKey, secretKey] = [join(folder, "access"), join(folder, "secret")];
  const secret = "testing-secret";
  writeFileSync(accessKey, "test:tester\n", { mode: 0o600 });
  writeFileSync(secretKey, `${secret}\n`, { mode: 0o600 });
  const endpoint = `http://127.0.0.1:${port}`;
  const words = { TYPE: "s3", PROVIDER: "Other", ACCESS_KEY_ID: "test:tester", SECRET_ACCESS_KEY: secret };
  const env = Object.fromEntries(
    Object.entries({ ...words, ENDPOINT: endpoint, REGION: "us-east-1" }).map(([name, value]) => [
      `RCLONE_CONFIG_S3_${name}`,
      value,
    ]),
  );
  const rclone = (...args: string[]): Promise<string> =>
    succeed("env", [
      "-i",
      `PATH=${process.env.PATH}`,
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      "rclone",
      "--config",
      "",
      ...args,
    ]);
  return {
    endpoint,
    accessKey,
    secretKey,
    secret,
    makeBucket: async (name) => void (await rclone("mkdir", `s3:${name}`)),
    list: async (path) =>
      (await rclone("lsf", "-R", "--files-only", `s3:${path}`))
        .split("\n")
        .filter((line) => line !== "")
        .sort(),
    read: (path) => rclone("cat", `s3:${path}`),
    freeze: () => void child.kill("SIGSTOP"),
    thaw: () => void child.kill("SIGCONT"),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await ended;
    },
  };
}
