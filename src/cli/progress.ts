/**
 * How far long work is: on a terminal one line that is drawn again at most ten times a second, with rate and time left;
 * elsewhere a line now and then. Always on stderr, so that results stay apart.
 */
import { humanSize } from "../base/size.ts";
import { fittedLine } from "./progress-bar.ts";

export type Progress = {
  readonly step: string;
  readonly bytes: number;
  readonly totalBytes?: number | undefined;
};

export type ProgressLine = { readonly tell: (progress: Progress) => void; readonly end: () => void };

const drawEvery = 100;
const lineEvery = 5000;
/** A rate of the first moments says nothing. */
const settling = 1000;

/** The last character of a line that was drawn is where the next one begins. */
export function openProgress(terminal: boolean = process.stderr.isTTY === true): ProgressLine {
  const write = (text: string): void => void process.stderr.write(text);
  let told = terminal ? 0 : performance.now();
  let step = { name: "", since: 0, from: 0 };
  const tell = (progress: Progress): void => {
    const now = performance.now();
    if (progress.step !== step.name || progress.bytes < step.from)
      step = { name: progress.step, since: now, from: progress.bytes };
    if (now - told < (terminal ? drawEvery : lineEvery)) return;
    told = now;
    const seconds = (now - step.since) / 1000;
    const rate = now - step.since < settling ? undefined : (progress.bytes - step.from) / seconds;
    write(
      terminal
        ? `\r\u001b[K${barText(progress, rate, process.stderr.columns || 80)}`
        : `${plainText(progress, rate)}\n`,
    );
  };
  return { tell, end: () => (terminal && told > 0 ? write("\r\u001b[K") : undefined) };
}

/** `[=====   ] copying 1.2GB of 3GB, 120MB/s, 15s left`, on a terminal of so many columns. */
export function barText(progress: Progress, rate: number | undefined, columns: number): string {
  const { bytes, totalBytes } = progress;
  const part = totalBytes === undefined || totalBytes === 0 ? undefined : bytes / totalBytes;
  return fittedLine({ part, text: amountText(progress), more: paceText(progress, rate) }, columns);
}

export const plainText = (progress: Progress, rate: number | undefined): string =>
  `${amountText(progress)}${paceText(progress, rate)}`;

function amountText({ step, bytes, totalBytes }: Progress): string {
  return `${step} ${humanSize(bytes)}${totalBytes === undefined ? "" : ` of ${humanSize(totalBytes)}`}`;
}

function paceText({ bytes, totalBytes }: Progress, rate: number | undefined): string {
  if (rate === undefined) return "";
  const left = rate > 0 && totalBytes !== undefined && totalBytes > bytes;
  return `, ${humanSize(Math.round(rate))}/s${left ? `, ${duration((totalBytes - bytes) / rate)} left` : ""}`;
}

/** `42s`, `3m05s`, `2h10m`. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(value).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
}
