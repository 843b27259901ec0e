/** Whether SELinux is on here: then `z` and `Z` of a bind mean work, else nothing. */
import { readFile } from "node:fs/promises";

/** False where the kernel has no SELinux or it is not in use. */
export async function selinuxEnabled(): Promise<boolean> {
  return readFile("/sys/fs/selinux/enforce").then(
    () => true,
    () => false,
  );
}
