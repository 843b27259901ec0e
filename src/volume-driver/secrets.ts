/** Options of mounts may hold passwords, and messages quote options: what is secret is taken out of a text. */

const secret = /(?:^|,)(?:password\d?|pass|passwd)=([^,]+)/gi;

/** `text` with every secret value of the mount options `o` as asterisks, however often it stands there. */
export function withoutSecrets(text: string, o: string): string {
  let shown = text;
  for (const [, value] of o.matchAll(secret)) if (value !== undefined) shown = shown.replaceAll(value, "********");
  return shown;
}
