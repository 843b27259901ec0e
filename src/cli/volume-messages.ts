/** What the commands of volumes share: paths of the API, long work with its progress, and how a copy is told of. */
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import { looseObject } from "../base/shape.ts";
import { humanSize } from "../base/size.ts";
import { openProgress, type ProgressLine } from "./progress.ts";

export type HostFlag = { readonly host?: string };
export type JsonFlag = { readonly json?: boolean };

/** `verb` may have a query. */
export const pathOf = (volume: string, verb: string): string => `/strata/volumes/${encodeURIComponent(volume)}/${verb}`;

const detail = v.optional(looseObject({ current: v.number(), total: v.optional(v.number()) }));
const message = looseObject({ status: v.optional(v.string()), progressDetail: detail, aux: v.optional(v.unknown()) });

/** Shows how far the work is, and resolves to its result. */
export async function finished<T>(
  messages: AsyncIterable<unknown>,
  result: v.GenericSchema<unknown, T>,
  line: ProgressLine = openProgress(),
): Promise<T> {
  try {
    for await (const one of messages) {
      const { aux } = v.parse(message, one);
      if (aux !== undefined) return v.parse(result, aux);
      showMessage(one, line);
    }
  } finally {
    line.end();
  }
  throw new EngineError("internal", "the engine broke off: its log says why");
}

/** What a message tells of how far the work is. */
export function showMessage(one: unknown, line: ProgressLine): void {
  const { status = "", progressDetail } = v.parse(message, one);
  if (progressDetail !== undefined)
    line.tell({ step: status, bytes: progressDetail.current, totalBytes: progressDetail.total });
}

export const reportShape = looseObject({
  Cost: v.picklist(["constant", "reflink", "copy"]),
  ByStore: v.boolean(),
  Bytes: v.number(),
  Seconds: v.number(),
  Consistent: v.boolean(),
});

/** What a copy cost, as a sentence for stderr. */
export function costText({ Cost, ByStore, Bytes, Seconds, Consistent }: v.InferOutput<typeof reportShape>): string {
  const time = `${Seconds.toFixed(1)}s`;
  const warning = Consistent ? "" : "; it was written to meanwhile, so this is of no one moment";
  if (ByStore) return `copied ${humanSize(Math.max(Bytes, 0))} in ${time}; this driver has no cheaper way${warning}\n`;
  const how = { constant: "no data was copied", reflink: "blocks are shared", copy: "the driver copied everything" }[
    Cost
  ];
  return `${how} (${Cost}), ${time}${warning}\n`;
}

export const printJson = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);

/** `VOLUME` or `VOLUME@SNAPSHOT`; an empty snapshot is none. */
export function sourceOf(text: string): { readonly volume: string; readonly snapshot: string } {
  const at = text.lastIndexOf("@");
  return at > 0 ? { volume: text.slice(0, at), snapshot: text.slice(at + 1) } : { volume: text, snapshot: "" };
}
