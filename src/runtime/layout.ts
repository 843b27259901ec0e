/**
 * Where the runtime keeps things, all below the exec root:
 *
 *     containers/<id>/            bundle: config.json, process.json, attach, ctl, winsz, pidfile, conmon.pid, runtime.log, oom
 *     containers/<id>/exec/<x>/   the same of one exec session, without config.json, with spec.json, note.json, exit/<id>
 *     exits/<id>                  exit code, written by conmon by rename
 *     state/<id>/                 the OCI runtime's own
 */
import { join } from "node:path";
import { EngineError } from "../base/errors.ts";

export type Layout = {
  readonly containers: string;
  readonly exits: string;
  readonly state: string;
};

export type ProcessDirectory = {
  readonly path: string;
  readonly config: string;
  /** What conmon and the runtime said when it began. */
  readonly record: string;
  readonly pidFile: string;
  readonly conmonPidFile: string;
  readonly attachSocket: string;
  readonly control: string;
  readonly runtimeLog: string;
  readonly oom: string;
};

export type ExecDirectory = ProcessDirectory & {
  readonly note: string;
  /** conmon's exit file is in it, by the container's id. */
  readonly exit: string;
};

export function layoutOf(execRoot: string): Layout {
  return { containers: join(execRoot, "containers"), exits: join(execRoot, "exits"), state: join(execRoot, "state") };
}

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

function checked(id: string): string {
  if (!idPattern.test(id)) throw new EngineError("invalid_argument", `invalid id: ${JSON.stringify(id.slice(0, 140))}`);
  return id;
}

const filesOf = (path: string, config: string): ProcessDirectory => ({
  path,
  config: join(path, config),
  record: join(path, "process.json"),
  pidFile: join(path, "pidfile"),
  conmonPidFile: join(path, "conmon.pid"),
  attachSocket: join(path, "attach"),
  control: join(path, "ctl"),
  runtimeLog: join(path, "runtime.log"),
  oom: join(path, "oom"),
});

export const bundleOf = (layout: Layout, id: string): ProcessDirectory =>
  filesOf(join(layout.containers, checked(id)), "config.json");

/** Where the sessions of a container have their directories. */
export const execsOf = (layout: Layout, id: string): string => join(layout.containers, checked(id), "exec");

export const execDirectoryOf = (layout: Layout, id: string, execId: string): ExecDirectory => {
  const path = join(execsOf(layout, id), checked(execId));
  return { ...filesOf(path, "spec.json"), note: join(path, "note.json"), exit: join(path, "exit") };
};

export const exitFileOf = (layout: Layout, id: string): string => join(layout.exits, checked(id));

export const stateDirectoryOf = (layout: Layout, id: string): string => join(layout.state, checked(id));
