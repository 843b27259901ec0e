/** `GET /exec/{id}/json`. */
import type { Exec } from "../../container/container.ts";

export function execJson(exec: Exec): object {
  const [entrypoint = "", ...rest] = exec.command;
  return {
    ID: exec.id,
    Running: exec.running,
    ExitCode: exec.exitCode ?? null,
    ProcessConfig: {
      tty: exec.tty,
      entrypoint,
      arguments: rest,
      privileged: exec.privileged,
      ...(exec.user === undefined ? {} : { user: exec.user }),
    },
    OpenStdin: exec.attachStdin,
    OpenStderr: exec.attachStderr,
    OpenStdout: exec.attachStdout,
    CanRemove: !exec.running,
    ContainerID: exec.containerId,
    DetachKeys: "",
    Pid: exec.pid,
  };
}
