/** Size limits as the daemon's and a container's options ask for them, held against what can limit at a driver's home. */
import { EngineError } from "../base/errors.ts";
import type { Limiter } from "../host/limiter.ts";
import { smallestImage } from "../host/size-image.ts";
import { checkedSize, containerSize, type SizeRules } from "./size-limit.ts";

/** What the daemon's options ask for, where it can be kept; throws unsupported or invalid_argument where it cannot. */
export function limitRules(asked: SizeRules, limiter: Limiter): SizeRules {
  const rules: SizeRules = { ...asked, minimum: limiter.kind === "image" ? smallestImage : undefined };
  const { driver, standard } = rules;
  if (standard === undefined) return rules;
  if (limiter.kind === "none")
    throw new EngineError("unsupported", `Storage option ${driver}.size not supported: ${limiter.reason}`);
  return { ...rules, standard: checkedSize(`${standard}`, rules) };
}

export type Refusal = {
  readonly limiter: Limiter;
  /** What the driver says where it cannot keep a limit; the reason follows. */
  readonly words: string;
};

/** The limit that a container's `options` ask for, where it can be kept. */
export function writableSize(
  options: Readonly<Record<string, string>>,
  rules: SizeRules,
  { limiter, words }: Refusal,
): number | undefined {
  const size = containerSize(options, rules);
  if (size !== undefined && limiter.kind === "none")
    throw new EngineError("invalid_argument", `${words} (${limiter.reason})`);
  return size;
}
