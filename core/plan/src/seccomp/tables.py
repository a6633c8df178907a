#!/usr/bin/env python3
"""Writes tables.rs from the kernel's system call numbers as the crate linux-raw-sys carries them:

    python3 tables.py ~/.cargo/registry/src/*/linux-raw-sys-0.12.1/src > tables.rs

tests/seccomp.rs compares the result with libseccomp's tables.
"""

import pathlib
import re
import sys

ARCHES = ["x86_64", "x86", "x32", "aarch64", "arm"]
NOT_CALLS = {"syscalls", "arch_specific_syscall"}
X32_BIT = 1 << 30
ARM_BASE = 0xF0000  # arm's own six calls; 0xf000 in the table

# What 32-bit x86 also does through socketcall(2) and ipc(2), net.h's SYS_SOCKET on and ipc.h's SEMOP on.
SOCKETCALL = """socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown
    setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg""".split()
IPC = {
    "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4,
    "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
    "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}  # fmt: skip
SOCKETCALL_NR, IPC_NR = 102, 117


def read(text, arch):
    calls = {}
    for name, number in re.findall(r"__(?:ARM_)?NR_([a-z0-9_]+): u32 = (\d+);", text):
        if name in NOT_CALLS:
            continue
        number = int(number)
        if arch == "x32":
            number &= ~X32_BIT
        if arch == "arm" and number >= ARM_BASE:
            number = 0xF000 | (number - ARM_BASE)
        assert number < 0xFFFF, (name, number)
        calls[name] = number
    return calls


def through(name):
    if name in SOCKETCALL:
        return SOCKETCALL_NR << 8 | (SOCKETCALL.index(name) + 1)
    if name in IPC:
        return IPC_NR << 8 | IPC[name]
    return None


root = pathlib.Path(sys.argv[1])
tables = {arch: read((root / arch / "general.rs").read_text(), arch) for arch in ARCHES}
names = sorted(set().union(*tables.values()), key=lambda name: name.encode())

print("//! System call numbers, by name: written by tables.py, do not edit. Complete up to file_setattr")
print("//! (469), Linux 6.17.")
print()
print("/// All names in byte order, a space after each.")
print('pub const NAMES: &str = "\\')
line = ""
for name in names:
    if len(line) + len(name) > 104:
        print(line + "\\")
        line = ""
    line += name + " "
print(line + '";')
print()
print("pub const NONE: u16 = 0xffff;")
print("pub type Row = [u16; 7];")
print()
print("/// Where the name starts in NAMES; its number on x86_64, x86, x32 (without bit 30), aarch64 and arm (its own calls from")
print("/// 0xf000 on); the call of x86 that also leads there, and the sub-call's number in the low byte. Flat words: a `&str`")
print("/// each would be relocated at every start of a position-independent program.")
print("#[rustfmt::skip]")
print(f"pub static CALLS: [Row; {len(names)}] = [")
start = 0
row = ""
for name in names:
    numbers = [tables[arch].get(name) for arch in ARCHES]
    cells = ["NONE" if n is None else str(n) for n in numbers + [through(name)]]
    cell = "[" + ", ".join([str(start)] + cells) + "],"
    if len(row) + len(cell) > 104:
        print("    " + row.strip())
        row = ""
    row += cell + " "
    start += len(name) + 1
print("    " + row.strip())
print("];")
