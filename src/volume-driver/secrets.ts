/** Options of mounts may hold passwords, and messages quote options: what is secret is taken out of a text. */

const secret = /(?:^|,)(?:password\d?|pass|passwd)=([^,]+)/gi;

/** `text` with every secret value of the mount options `o` as asterisks, however often it stands there. */
export function withoutSecrets(text: string, o: string): string {
  let shown = text;
  for (const [, value] of o.matchAll(secret)) if (value !== undefined) shown = shown.replaceAll(value, "********");
  return shown;
}

const secretName = /pass|secret|token|credential|key|auth/i;

/** `text` with the values of options whose names say that they are secret as asterisks. */
export function withoutOptionSecrets(text: string, options: Readonly<Record<string, string>>): string {
  let shown = withoutSecrets(text, options.o ?? "");
  for (const [name, value] of Object.entries(options))
    if (secretName.test(name) && value.length > 2) shown = shown.replaceAll(value, "********");
  return shown;
}
