/**
 * A real sshd on loopback for tests, with keys, users and passwords of its own: it runs in a mount namespace in which
 * /etc/passwd and /etc/shadow are its own files, and shows a folder to sftp as root.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { succeed } from "./engine.ts";
import { freePort, listens } from "./ports.ts";
import { until } from "./until.ts";

export type Sshd = AsyncDisposable & {
  readonly port: number;
  /** Private keys: the one that is let in, and another. */
  readonly identity: string;
  readonly stranger: string;
  readonly knownHosts: string;
  readonly password: string;
  readonly log: () => string;
};

export const sshdProgram = ["/usr/sbin/sshd", "/sbin/sshd"].find(existsSync);

/** `folder` is the server's own. */
export async function startSshd(folder: string): Promise<Sshd> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(folder, name);
  for (const key of ["host", "identity", "stranger"])
    await succeed("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", at(key)]);
  const port = await freePort();
  const password = "a pass, word";
  const hash = (await succeed("openssl", ["passwd", "-6", "-stdin"], { input: `${password}\n` })).trim();
  writeFileSync(at("passwd"), "root:x:0:0:root:/root:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n");
  writeFileSync(at("shadow"), `root:${hash}:19000:0:99999:7:::\n`, { mode: 0o600 });
  writeFileSync(at("authorized"), readFileSync(at("identity.pub")), { mode: 0o600 });
  writeFileSync(at("known_hosts"), `[127.0.0.1]:${port} ${readFileSync(at("host.pub"), "utf8")}`);
  const lines = [
    `Port ${port}`,
    "ListenAddress 127.0.0.1",
    `HostKey "${at("host")}"`,
    `AuthorizedKeysFile "${at("authorized")}"`,
    ...[
      "PermitRootLogin yes",
      "PasswordAuthentication yes",
      "UsePAM no",
      "StrictModes no",
      "PidFile none",
      "UseDNS no",
    ],
    "MaxStartups 200",
    "Subsystem sftp internal-sftp",
  ];
  writeFileSync(at("sshd_config"), `${lines.join("\n")}\n`);
  const script = `set -e; mkdir -p /run/sshd; mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/shadow" /etc/shadow
exec "$2" -D -E "$1/log" -f "$1/sshd_config"`;
  const words = ["--mount", "--propagation", "private", "sh", "-c", script, "sh", folder, sshdProgram ?? "sshd"];
  const child = spawn("unshare", words, { stdio: "ignore" });
  const ended = once(child, "exit");
  await until("sshd listens", () => listens(port));
  return {
    port,
    identity: at("identity"),
    stranger: at("stranger"),
    knownHosts: at("known_hosts"),
    password,
    log: () => readFileSync(at("log"), "utf8"),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
