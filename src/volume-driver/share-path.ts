/**
 * A volume below a share: its directory is made on the server when it is missing, so that many volumes live on one
 * share. Directories are made one at a time, each in the mounted directory above it: a server's symlinks are never
 * followed on this machine. What is mounted for that is seen by nobody else and ends with the program that made it,
 * whatever becomes of the engine.
 */
import { EngineError, isError } from "../base/errors.ts";
import { runProgram } from "../host/program.ts";
import type { MountProgram } from "./program-kind.ts";

export type ShareMaker = {
  /** How a directory of the share is mounted, "" is the share itself. */
  readonly program: (path: string) => MountProgram;
  /** An empty directory to mount on, in a namespace of its own. */
  readonly target: string;
  /** Milliseconds for each of the programs. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
};

/**
 * `$1` is made in what the command mounts on `$2`; they are never part of the script. Who goes down looks where it is: a
 * symlink of the server may lead out of the share, and nothing is made there.
 */
const start = `name=$1 on=$2; shift 2; make() {
  [ -n "$name" ] || return 0; cd -P -- "$on" && share=$(stat -c %d .) || exit 2
  while :; do
    each=\${name%%/*}; [ -d "./$each" ] || mkdir -- "./$each" || [ -d "./$each" ] || exit 2
    [ "$each" != "$name" ] || return 0; name=\${name#*/}
    [ ! -L "./$each" ] && cd -P -- "./$each" && [ "$(stat -c %d .)" = "$share" ] || { echo "no directory of the share" >&2; exit 2; }
  done
}`;
const mountAndMake = `${start}; "$@" || exit 1; make`;
/** The mount is there before its server has answered; what the program says when it ends is why it has not. It ends by itself, and takes leave of its server. */
const serveAndMake = `${start}; "$@" & while kill -0 $! 2>/dev/null; do
  if mountpoint -q "$on" && [ -d "$on/." ]; then (make); made=$?; umount -l "$on"; wait $!; exit $made; fi
  sleep 0.05
done; exit 1`;
/** With processes of their own, the one that serves ends with the script. */
const apart = ["--mount", "--propagation", "private"];
const withProcesses = [...apart, "--pid", "--fork", "--kill-child"];

/** Resolves when the directory is there, and what the share says was heard; "" is the share itself. Throws what the program of the share says, explained. */
export async function makeOnShare(maker: ShareMaker, path: string): Promise<void> {
  try {
    await mountApart(maker, path);
  } catch (error) {
    const cut = path.lastIndexOf("/");
    if (!isError(error, "not_found") || path === "") throw error;
    const above = path.slice(0, Math.max(cut, 0));
    if (above !== "") await makeOnShare(maker, above);
    await mountApart(maker, above, path.slice(cut + 1));
  }
}

/** The same for who may mount the share itself: only that is mounted, and the program never meets a directory that is missing. */
export const makeBelowShare = (maker: ShareMaker, path: string): Promise<void> => mountApart(maker, "", path);

/** Mounts a directory of the share where nobody sees it, and makes `name` in it. */
async function mountApart(maker: ShareMaker, path: string, name = ""): Promise<void> {
  const { program, args, input, env, explain, serves } = maker.program(path);
  const shell = serves
    ? [...withProcesses, "--", "sh", "-c", serveAndMake]
    : [...apart, "--", "sh", "-c", mountAndMake];
  const words = [...shell, "sh", name, maker.target, program, ...args];
  const { code, stdout, stderr } = await runProgram("unshare", words, {
    deadline: maker.deadline,
    env: { PATH: process.env.PATH ?? "", LC_ALL: "C.UTF-8", ...env },
    ...(input === undefined ? {} : { input }),
    ...(maker.signal === undefined ? {} : { signal: maker.signal }),
  }).catch((error: unknown) => {
    if (!isError(error, "deadline_exceeded")) throw error;
    const late = `${program} did not mount within ${maker.deadline / 1000} s: the server does not answer`;
    throw new EngineError("deadline_exceeded", late, { cause: error });
  });
  if (code === 0) return;
  const said = `${stderr}\n${stdout}`.trim();
  const last = said.split("\n").at(-1)?.slice(0, 400) ?? "";
  if (code === 2)
    throw new EngineError(
      "forbidden",
      `the directory ${JSON.stringify(name)} cannot be made on the server (${last.replace(/^.*: /, "")}); make it there, or let this machine write`,
    );
  throw explain?.(said) ?? new EngineError("internal", `${program}: ${last || `it ended with ${code}`}`);
}
