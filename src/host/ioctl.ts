/**
 * ioctl(2) for the code of one filesystem (btrfs, loop devices), which knows its own request numbers and structures.
 */
import { check, native } from "./libc.ts";

const withBuffer = native("int ioctl(int, unsigned long, void *)");
const withNumber = native("int ioctl(int, unsigned long, long)");

/** `argument` is a structure that the kernel reads and may write, or a plain number. Returns what the call returns. */
export function ioctl(fd: number, request: number, argument: ArrayBufferView | number): number {
  const result = typeof argument === "number" ? withNumber(fd, request, argument) : withBuffer(fd, request, argument);
  return check(result, "ioctl");
}
