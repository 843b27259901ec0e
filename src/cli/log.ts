/**
 * The daemon's log on stderr: lines for people on a terminal, JSON otherwise. Credentials in messages and URLs are
 * taken out before anything is written.
 */
import { type DestinationStream, type Logger, pino } from "pino";

const secretMember = /((?:pass(?:word|wd)?|secret|token|credentials?|auth)["']?\s*[=:]\s*["']?)[^\s,"'&]+/gi;
const urlCredentials = /(\w+:\/\/)[^/\s@:]+(?::[^/\s@]*)?@/g;

/** `text` without what looks like a credential. */
export function redact(text: string): string {
  return text.replace(secretMember, "$1***").replace(urlCredentials, "$1***@");
}

const levelNames: Readonly<Record<number, string>> = {
  10: "TRACE",
  20: "DEBUG",
  30: "INFO",
  40: "WARN",
  50: "ERROR",
  60: "FATAL",
};

/** `12:00:01 INFO  message key=value`, then a failure's stack. */
function humanLine(line: string): string {
  const { time, level, msg, err, pid: _pid, hostname: _host, ...more } = JSON.parse(line) as Record<string, unknown>;
  const clock = new Date(Number(time)).toISOString().slice(11, 23);
  const extra = Object.entries(more).map(
    ([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  const stack = typeof err === "object" && err !== null && "stack" in err ? `\n${String(err.stack)}` : "";
  return `${clock} ${(levelNames[Number(level)] ?? "").padEnd(5)} ${String(msg ?? "")}${extra.join("")}${stack}\n`;
}

export function createLog(level: string, terminal: boolean): Logger {
  const destination: DestinationStream = {
    write: (line) => process.stderr.write(redact(terminal ? humanLine(line) : line)),
  };
  return pino({ level, base: { pid: process.pid } }, destination);
}
