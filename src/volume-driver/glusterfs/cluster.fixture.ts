/**
 * A GlusterFS cluster of one machine for tests: two bricks that hold the same, served in a network, a mount table and a
 * process table of their own. GlusterFS has fixed folders and a fixed port, so whoever uses it moves this whole process
 * into that network first: what it starts from then on is there too.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { native } from "../../host/libc.ts";
import { runProgram } from "../../host/program.ts";

/** No loopback address: glusterd wants one that others could reach. */
export const server = "10.44.0.1";
export const volume = "gv0";
const deadline = 120_000;

const unshare = native("int unshare(int flags)");
const newNetwork = 0x40000000;

const script = `
set -e
for folder in /var/lib/glusterd /var/log/glusterfs /run; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
mkdir -p /run/gluster
glusterd
gluster --mode=script volume create ${volume} replica 2 ${server}:$1/one ${server}:$1/two force
gluster --mode=script volume set ${volume} cluster.self-heal-daemon on
gluster --mode=script volume start ${volume}
echo ready
# What crashes is waited for, or it would count as running.
sleep 100000 &
wait
`;

export type Cluster = AsyncDisposable & {
  /** Ends one of the two bricks as a crash does. */
  readonly killBrick: (name: "one" | "two") => void;
  /** Starts what does not run; resolves when both hold the same again. */
  readonly heal: () => Promise<void>;
  /** Where a brick keeps its files. */
  readonly brick: (name: "one" | "two") => string;
};

/** Moves this process into a network of its own, and starts the cluster there. */
export async function startCluster(): Promise<Cluster> {
  if (unshare(newNetwork) !== 0) throw new Error("no network of our own");
  for (const words of ["link set lo up", `address add ${server}/32 dev lo`]) await ip(words);
  const scratch = mkdtempSync(join(tmpdir(), "gluster-"));
  for (const name of ["one", "two"]) mkdirSync(join(scratch, name));
  const apart = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const child = spawn("unshare", [...apart, "sh", "-c", script, "sh", scratch], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === "ready") break;
    said += `${line}\n`;
  }
  if (child.exitCode !== null || child.pid === undefined) throw new Error(`the cluster does not begin: ${said}`);
  const inside = ["-t", `${firstChildOf(child.pid)}`, "-m", "-p", "gluster", "--mode=script"];
  const gluster = async (words: string): Promise<string> => {
    const { stdout } = await runProgram("nsenter", [...inside, ...words.split(" ")], { deadline });
    return stdout;
  };
  return {
    killBrick: (name) => process.kill(pidOfBrick(join(scratch, name)), "SIGKILL"),
    heal: async () => {
      await gluster(`volume start ${volume} force`);
      const isWhole = async (): Promise<boolean> => {
        await gluster(`volume heal ${volume}`);
        const counts = (await gluster(`volume heal ${volume} info`)).match(/Number of entries: \S+/g) ?? [];
        return counts.length === 2 && counts.every((one) => one.endsWith(": 0"));
      };
      while (!(await isWhole())) await new Promise((done) => setTimeout(done, 200));
    },
    brick: (name) => join(scratch, name),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      rmSync(scratch, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}

async function ip(words: string): Promise<void> {
  const { code, stderr } = await runProgram("ip", words.split(" "), { deadline });
  if (code !== 0) throw new Error(`ip ${words}: ${stderr}`);
}

const firstChildOf = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);

function pidOfBrick(folder: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    if (wordsOf(pid).includes(folder)) return Number(pid);
  throw new Error(`no brick serves ${folder}`);
}

function wordsOf(pid: string): readonly string[] {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return words[0]?.endsWith("glusterfsd") === true ? words : [];
  } catch {
    // It ended.
    return [];
  }
}
