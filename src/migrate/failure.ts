/** What a migration says when it stops: what failed, that nothing old was touched, and how to go on. */
import { EngineError, errorCode, errorMessage } from "../base/errors.ts";

type Migration = { readonly source: string; readonly target: string; readonly dataRoot: string };

export function explain(error: unknown, { source, target, dataRoot }: Migration): EngineError {
  const code = errorCode(error);
  const untouched = `Nothing of ${source} was changed, and it is still the driver of ${dataRoot}`;
  if (code === "no_space")
    return new EngineError(
      code,
      `no space is left for ${target} below ${dataRoot} (${errorMessage(error)}). ${untouched}. Make room and run the same command again: what has arrived stays`,
      { cause: error },
    );
  if (code === "data_loss")
    return new EngineError(
      code,
      `what arrives at ${target} is not what was recorded: ${errorMessage(error)}. ${untouched}. See what is damaged with "strata check", remove or load again the images it names, and run the same command again`,
      { cause: error },
    );
  return new EngineError(code, `${errorMessage(error)}. ${untouched}; the same command goes on where it stopped`, {
    cause: error,
  });
}
