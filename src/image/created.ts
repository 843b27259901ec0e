/** When an image says it was created: RFC 3339 with up to nine digits of a second, written by whoever made it. */

/** Milliseconds since the epoch, or undefined when absent or no date. */
export function createdTime(text: string | undefined): number | undefined {
  const time = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

/** Seconds as the API gives them; 0 when unknown. */
export function createdSeconds(text: string | undefined): number {
  return Math.floor((createdTime(text) ?? 0) / 1000);
}
