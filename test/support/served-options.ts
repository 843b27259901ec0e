/** Options of volumes on the servers that tests start: what `-o` is given, a secret always as a reference to its file. */
import type { Sshd } from "./sshd.ts";
import type { S3Server } from "./swift.ts";

/** Of the sshfs driver, for a folder of the machine. */
export function sshfsOptions({ port, identity, knownHosts }: Sshd, folder: string): readonly string[] {
  return [`sshcmd=root@127.0.0.1:${folder}`, `port=${port}`, `identity=@${identity}`, `known_hosts=@${knownHosts}`];
}

/** Of the s3 driver, for a prefix of a bucket. */
export function s3Options(
  { endpoint, accessKey, secretKey }: S3Server,
  at: { bucket: string; prefix: string },
): readonly string[] {
  const place = [`bucket=${at.bucket}`, `prefix=${at.prefix}`, `endpoint=${endpoint}`];
  return [...place, `access_key=@${accessKey}`, `secret_key=@${secretKey}`];
}

/** As arguments of a CLI. */
export const asFlags = (options: readonly string[]): readonly string[] => options.flatMap((option) => ["-o", option]);
