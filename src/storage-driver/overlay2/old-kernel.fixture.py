"""Runs a program as on a kernel before 5.2: the calls that build mounts out of sight do not exist (ENOSYS)."""
import ctypes
import os
import struct
import sys

absent = [428, 429, 430, 431, 432, 433, 442]  # open_tree .. fspick, mount_setattr: the same on every architecture
load, equal, give = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
enosys, allow = 0x00050000 | 38, 0x7FFF0000

program = struct.pack("HBBI", load, 0, 0, 0)
for position, number in enumerate(absent):
    program += struct.pack("HBBI", equal, len(absent) - position, 0, number)
program += struct.pack("HBBI", give, 0, 0, allow) + struct.pack("HBBI", give, 0, 0, enosys)

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program, len(program))


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


filter = Filter(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
no_new_privileges, seccomp = 38, 22
if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or libc.prctl(seccomp, 2, ctypes.byref(filter), 0, 0) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
