/** `strata volume` against a daemon of a test. */
import assert from "node:assert/strict";
import { type CommandResult, command, type Daemon } from "./engine.ts";

/** The project's own command. */
export const strataProgram = new URL("../../bin/strata", import.meta.url).pathname;

export type StrataVolume = {
  readonly volume: (...args: readonly string[]) => Promise<CommandResult>;
  /** Failing is an error, with the end of the daemon's log; resolves to what it printed, trimmed. */
  readonly ok: (...args: readonly string[]) => Promise<string>;
};

/** `daemon` is asked for each time: tests start it again. */
export function strataVolume(daemon: () => Daemon): StrataVolume {
  const volume = (...args: readonly string[]): Promise<CommandResult> =>
    command(strataProgram, ["volume", ...args, "-H", daemon().host]);
  const ok = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await volume(...args);
    assert.equal(code, 0, `strata volume ${args.join(" ")}: ${stderr}${daemon().log().slice(-2000)}`);
    return stdout.trim();
  };
  return { volume, ok };
}
