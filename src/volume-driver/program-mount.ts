/**
 * Volumes that a program mounts. A kind says which program, with which words; here it is run, watched, found dead and
 * mounted anew, and brought to its end. What it is told of secrets goes through stdin or its environment, and no
 * message repeats it.
 *
 *     <folder>/<name>/run/        0700  what a mounted volume's program needs beside it: sockets, links, its log
 *
 * A program either serves the mount for as long as it stands (FUSE), or mounts and ends (mount.nfs, mount.cifs).
 */
import { access, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, isError } from "../base/errors.ts";
import { isMountPoint } from "../host/mount.ts";
import { endServers, ServerFailure, serversOf, startServer, trimLog } from "../host/mount-server.ts";
import type { Pool } from "../host/pool.ts";
import { runProgram } from "../host/program.ts";
import type { VolumeSpec } from "./driver.ts";
import type { MountContext, MountProgram, ProgramKind } from "./program-kind.ts";
import { openSecretReader, parseReference, pathOfReference } from "./secret-reference.ts";

export type ProgramPlace = { readonly spec: VolumeSpec; readonly folder: string; readonly target: string };

export type ProgramSurroundings = {
  readonly root: string;
  readonly pool: Pool;
  /** Takes every mount on a target away, whether what serves it answers or not. */
  readonly detach: (target: string) => Promise<void>;
};

const discardTasks = new URL("./discard-task.ts", import.meta.url);
const defaultDeadline = 60_000;
const trimEvery = 60_000;
/** Milliseconds that the end of a volume's last use waits for its data to be saved. */
const drainPatience = 30_000;
/** Milliseconds that who must know that data is saved waits for it. */
const saveDeadline = 600_000;
const longestPause = 2000;
/** Milliseconds that who wants a volume waits for what an earlier use of it has not saved yet. */
const savePatience = 5000;

export class ProgramMounts {
  readonly #kind: ProgramKind;
  readonly #root: string;
  readonly #pool: Pool;
  readonly #detach: (target: string) => Promise<void>;
  readonly #logs = new Set<string>();
  /** Target -> an end that waits until all is saved. */
  readonly #draining = new Map<string, { readonly stop: AbortController; readonly done: Promise<void> }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(kind: ProgramKind, { root, pool, detach }: ProgramSurroundings) {
    this.#kind = kind;
    this.#root = root;
    this.#pool = pool;
    this.#detach = detach;
  }

  /** `folder` is the staging folder of a volume that is being made. */
  async prepare(spec: VolumeSpec, folder: string): Promise<void> {
    if (this.#kind.prepare === undefined) return;
    await this.#guarded(spec, { folder }, (context) => this.#kind.prepare?.(context));
  }

  /** Mounted and served already: nothing. What a dead server left is taken away first. */
  async mount(place: ProgramPlace, signal?: AbortSignal): Promise<void> {
    const { folder, target } = place;
    await this.#stopDraining(target);
    await this.#refuseSaving(place);
    const run = join(folder, "run");
    if (isMountPoint(target) && (await this.#isServed(target))) {
      this.#keepShort(join(run, "log"));
      return;
    }
    await this.#clear(target);
    await rm(run, { recursive: true, force: true });
    await mkdir(run, { mode: 0o700 });
    try {
      await this.#start(place, run, signal);
    } catch (error) {
      await this.#clear(target);
      await rm(run, { recursive: true, force: true });
      throw error;
    }
  }

  /** What the program still keeps to itself, in words. */
  async unsaved({ spec, folder }: Pick<ProgramPlace, "spec" | "folder">): Promise<string | undefined> {
    if (this.#kind.unsaved === undefined) return undefined;
    return this.#guarded(spec, { folder }, async (context) => this.#kind.unsaved?.(context));
  }

  /** Resolves when a mounted volume's program keeps nothing to itself. */
  async saved(place: ProgramPlace): Promise<void> {
    const until = performance.now() + saveDeadline;
    for (let pause = 50; await this.#keepsData(place); pause = Math.min(pause * 2, longestPause)) {
      if (performance.now() > until)
        throw new EngineError("deadline_exceeded", (await this.unsaved(place)) ?? "what was written is not saved yet");
      await sleep(pause);
    }
    const left = await this.unsaved(place);
    if (left !== undefined) throw new EngineError("unavailable", left);
  }

  /** Bytes of data, where the kind can tell. */
  async usage(
    { spec, folder }: Pick<ProgramPlace, "spec" | "folder">,
    signal?: AbortSignal,
  ): Promise<number | undefined> {
    return this.#guarded(spec, { folder, signal }, async (context) => this.#kind.usage?.(context));
  }

  /** Ends mount and server for good. Throws conflict while something is not saved. */
  async release(place: ProgramPlace): Promise<void> {
    await this.#stopDraining(place.target);
    const words = await this.unsaved(place);
    if (words === undefined) {
      await this.#end(place, AbortSignal.timeout(savePatience));
      return this.#refuseSaving(place, AbortSignal.abort());
    }
    await this.unmount(place, 0);
    throw new EngineError("conflict", words);
  }

  /**
   * Ends mount and server, once all is saved. What takes longer than `patience` milliseconds goes on behind the caller,
   * until the volume is mounted again.
   */
  async unmount(place: ProgramPlace, patience = this.#kind.patience ?? drainPatience): Promise<void> {
    await this.#stopDraining(place.target);
    const stop = new AbortController();
    const done = this.#drained(place, stop.signal);
    this.#draining.set(place.target, { stop, done });
    // Whoever still waits is told.
    done.catch(() => undefined);
    const timer = new AbortController();
    const late = sleep(patience, false, { signal: timer.signal }).catch(() => false);
    await Promise.race([done, late]);
    timer.abort();
  }

  /** Nothing of an earlier end goes on when it resolves. */
  async #stopDraining(target: string): Promise<void> {
    const draining = this.#draining.get(target);
    draining?.stop.abort();
    await draining?.done.catch(() => undefined);
  }

  async #drained(place: ProgramPlace, signal: AbortSignal): Promise<void> {
    try {
      for (let pause = 50; await this.#keepsData(place); pause = Math.min(pause * 2, longestPause)) {
        await sleep(pause, undefined, { signal, ref: false }).catch(() => undefined);
        if (signal.aborted) return;
      }
      await this.#end(place, signal);
    } finally {
      this.#draining.delete(place.target);
    }
  }

  /** A program that has ended keeps nothing that waiting would save. */
  async #keepsData(place: ProgramPlace): Promise<boolean> {
    return (await this.unsaved(place)) !== undefined && this.#isServed(place.target);
  }

  /** A server that saves is left alone when the signal aborts. Throws when one cannot be ended. */
  async #end(place: ProgramPlace, signal: AbortSignal): Promise<void> {
    const { folder, target } = place;
    const run = join(folder, "run");
    // Whatever was begun has it.
    if (!isMountPoint(target) && !(await isThere(run))) return;
    this.#forgetLog(join(run, "log"));
    await this.#detach(target);
    if (!(await this.#hasSaved(target, signal))) return;
    const gone = await endServers({ names: this.#kind.servers, target });
    await rm(run, { recursive: true, force: true });
    await this.#discardScratch(place);
    if (!gone)
      throw new EngineError("unavailable", `the program that serves ${target} does not end; it waits for its server`);
  }

  /** False when the signal aborts while a server without its mount still saves. */
  async #hasSaved(target: string, signal: AbortSignal): Promise<boolean> {
    const { saving } = this.#kind;
    if (saving === undefined) return true;
    const until = performance.now() + saving;
    for (
      let pause = 50;
      performance.now() < until && (await this.#isServed(target));
      pause = Math.min(pause * 2, 500)
    ) {
      if (signal.aborted) return false;
      await sleep(pause, undefined, { signal, ref: false }).catch(() => undefined);
    }
    return true;
  }

  /** Throws conflict while a server without its mount still saves. */
  async #refuseSaving(place: ProgramPlace, signal = AbortSignal.timeout(savePatience)): Promise<void> {
    const { spec, target } = place;
    if (this.#kind.saving === undefined || isMountPoint(target)) return;
    if (await this.#hasSaved(target, signal)) return;
    const pids = (await serversOf({ names: this.#kind.servers, target })).map(({ pid }) => pid).join(", ");
    // It is watched on.
    await this.unmount(place, 0);
    const words = `what was written to the volume ${spec.name} has not reached its server; try again when that answers`;
    throw new EngineError("conflict", `${words}, or end the process ${pids}, which has it, to give it up`);
  }

  async #discardScratch(place: ProgramPlace): Promise<void> {
    const { scratch } = this.#kind;
    if (scratch === undefined || (await this.unsaved(place)) !== undefined) return;
    await this.#pool.run(discardTasks, "discardTask", join(place.folder, scratch));
  }

  async #isServed(target: string): Promise<boolean> {
    const { servers: names } = this.#kind;
    return names.length === 0 || (await serversOf({ names, target })).length > 0;
  }

  async #clear(target: string): Promise<void> {
    if (isMountPoint(target)) await this.#detach(target);
    await endServers({ names: this.#kind.servers, target }, { itself: 0 });
  }

  async #start(place: ProgramPlace, run: string, signal: AbortSignal | undefined): Promise<void> {
    const { spec, folder, target } = place;
    await this.#guarded(spec, { folder, signal }, async (context) => {
      const program = await this.#kind.mount(context, target);
      if (program.serves) await this.#serve(program, { target, log: join(run, "log") }, signal);
      else await this.#runOnce(program, signal);
    });
  }

  async #serve(
    program: MountProgram,
    { target, log }: { readonly target: string; readonly log: string },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { servers: names, deadline = defaultDeadline } = this.#kind;
    try {
      await startServer(program, { target, names, log }, { deadline, signal });
    } catch (error) {
      if (!(error instanceof ServerFailure)) throw error;
      throw error.late ? late(program, deadline, error.said) : failed(program, error.said);
    }
    this.#keepShort(log);
  }

  async #runOnce(program: MountProgram, signal: AbortSignal | undefined): Promise<void> {
    const { deadline = defaultDeadline } = this.#kind;
    const { args, input, env } = program;
    try {
      const { code, stdout, stderr } = await runProgram(program.program, args, {
        deadline,
        env: { PATH: process.env.PATH ?? "", LC_ALL: "C.UTF-8", ...env },
        ...(input === undefined ? {} : { input }),
        ...(signal === undefined ? {} : { signal }),
      });
      if (code !== 0) throw failed(program, `${stderr}\n${stdout}`.trim() || `it ended with ${code}`);
    } catch (error) {
      if (isError(error, "deadline_exceeded")) throw late(program, deadline, "");
      throw error;
    }
  }

  /** Runs work that may read secrets: no error that leaves here holds one. */
  async #guarded<T>(
    spec: VolumeSpec,
    { folder, signal }: { readonly folder: string; readonly signal?: AbortSignal | undefined },
    work: (context: MountContext) => Promise<T> | T,
  ): Promise<T> {
    const secrets = new Set<string>();
    const reader = openSecretReader({ root: this.#root, pool: this.#pool });
    const secret: MountContext["secret"] = async (option, access) => {
      const text = await reader.read(option, spec.options[option] ?? "", access);
      if (access !== "public") secrets.add(text);
      return text;
    };
    const secretPath: MountContext["secretPath"] = async (option, access) => {
      await secret(option, access);
      return pathOfReference(parseReference(option, spec.options[option] ?? ""), this.#root);
    };
    const context = { spec, folder, run: join(folder, "run"), secret, secretPath, pool: this.#pool, signal };
    try {
      return await work(context);
    } catch (error) {
      throw withoutThese(error, secrets);
    }
  }

  #keepShort(log: string): void {
    this.#logs.add(log);
    this.#timer ??= setInterval(() => {
      for (const path of this.#logs) trimLog(path).catch(() => undefined);
    }, trimEvery).unref();
  }

  #forgetLog(log: string): void {
    this.#logs.delete(log);
    if (this.#logs.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

function failed({ program, explain }: MountProgram, said: string): EngineError {
  return explain?.(said) ?? new EngineError("internal", `${program}: ${oneLine(said) || "ended without a word"}`);
}

function late({ program, explain }: MountProgram, deadline: number, said: string): EngineError {
  const known = explain?.(said);
  if (known !== undefined) return known;
  return new EngineError("deadline_exceeded", `${program} did not mount within ${deadline / 1000} s`);
}

const longestSaid = 400;

const oneLine = (said: string): string => said.replace(/\s*[\r\n]+\s*/g, "; ").slice(-longestSaid);

/** The same failure with secrets as asterisks, and without a cause that may hold them. */
function withoutThese(error: unknown, secrets: ReadonlySet<string>): unknown {
  if (!(error instanceof Error)) return error;
  let words = error.message;
  for (const secret of secrets)
    for (const part of new Set([secret, ...secret.split("\n")]))
      if (part.length > 2) words = words.replaceAll(part, "********");
  if (words === error.message) return error;
  return new EngineError(error instanceof EngineError ? error.code : "internal", words);
}
