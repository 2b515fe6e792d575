"""Where the system lacks a protection the others hold, and it is said; the filter of calls, on both machines."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.sandbox import landlock, seccomp
from ingestion.sandbox.confine import Protections
from workers.commands.doctor.checks import CheckStatus
from workers.commands.doctor.confinement import check_confinement, protection_results

PID = 4711

# Run a child in a process whose system answers ENOSYS to some calls, as that of a container may.
UNDER_DENIAL = """
import asyncio, ctypes, dataclasses, json, struct, sys
from ingestion.sandbox.pool import Sandbox

denied = json.loads(sys.argv[1])
rules = [one for n in denied for one in ((0x15, 0, 1, n), (6, 0, 0, 0x50000 | 38))]
code = [(0x20, 0, 0, 0), *rules, (6, 0, 0, 0x7FFF0000)]
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
packed = b"".join(struct.pack("=HBBI", *one) for one in code)
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code), packed)), 0, 0) == 0

async def main():
    sandbox = Sandbox(processes=1, memory_bytes=1 << 30, log_protections=False)
    protections = await sandbox.start()
    assert await sandbox.run(abs, -1, timeout_s=30) == 1
    print(json.dumps(dataclasses.asdict(protections)))

asyncio.run(main())
"""
UNSHARE, LANDLOCK, SECCOMP = 272, 444, 317  # on x86-64


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not seccomp.is_available(), reason="calls are denied by a filter for x86-64"
)
@pytest.mark.parametrize("denied", [[UNSHARE], [LANDLOCK], [SECCOMP], [UNSHARE, LANDLOCK, SECCOMP]])
def test_missing_protections_are_reported_and_children_run(denied: list[int]) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", UNDER_DENIAL, json.dumps(denied)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    protections = Protections(**json.loads(said.stdout))
    assert not (protections.namespaces and UNSHARE in denied)
    assert protections.landlock == (0 if LANDLOCK in denied else landlock.version())
    assert protections.seccomp is (SECCOMP not in denied)


def test_doctor_names_each_protection_that_is_missing() -> None:
    statuses = [result.status for result in protection_results(Protections(False, 0, False))]
    assert statuses == [CheckStatus.OK, CheckStatus.WARN, CheckStatus.WARN, CheckStatus.WARN]
    assert {result.status for result in protection_results(Protections(True, 7, True))} == {CheckStatus.OK}
    assert Protections(False, 0, False).missing() == ["user and network namespaces", "Landlock", "seccomp"]
    assert Protections(True, 1, True).missing() == []


async def test_doctor_starts_a_child_in_order_to_see() -> None:
    results = await check_confinement()
    assert [result.name for result in results][1:] == [
        "PDF children: Landlock",
        "PDF children: seccomp",
        "PDF children: namespaces",
    ]


# The filter, by an interpreter of as much of BPF as it uses

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NOT_THERE, NOT_PERMITTED, DENIED = (0x50000 | number for number in (errno.ENOSYS, errno.EPERM, errno.EACCES))


def action(machine: str, number: int, *arguments: int, architecture: int | None = None, execute: bool = False) -> int:
    data = {0: number, 4: ARCHITECTURES[machine] if architecture is None else architecture}
    for index, value in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6]):
        data[16 + 8 * index] = value & 0xFFFFFFFF
        data[20 + 8 * index] = value >> 32 & 0xFFFFFFFF
    program, at, accumulator = seccomp.build(machine, PID, may_execute=execute), 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            accumulator = data[constant]
        elif code == 0x15:
            at += if_true if accumulator == constant else if_false
        elif code == 0x45:
            at += if_true if accumulator & constant else if_false
        else:
            raise AssertionError(f"instruction {code:#x}")


NUMBERS = {  # x86_64, aarch64
    "read": (0, 63),
    "openat": (257, 56),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "execve": (59, 221),
    "clone": (56, 220),
    "clone3": (435, 435),
    "socket": (41, 198),
    "connect": (42, 203),
    "ptrace": (101, 117),
}
machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def number(machine: str, name: str) -> int:
    return NUMBERS[name][0 if machine == "x86_64" else 1]


@machines
def test_only_files_are_opened_and_only_to_read(machine: str) -> None:
    openat = number(machine, "openat")
    assert action(machine, openat, 2**64 - 100, 0x1000, os.O_RDONLY | os.O_CLOEXEC) == ALLOWED
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_WRONLY | os.O_RDWR, 0o20200000):
        assert action(machine, openat, 2**64 - 100, 0x1000, flags) == DENIED
        assert action(machine, openat, 2**64 - 100, 0x1000, flags | 1 << 32) == DENIED


@machines
def test_only_the_process_itself_is_signalled_and_no_limit_is_set(machine: str) -> None:
    for name in ("kill", "tgkill"):
        assert action(machine, number(machine, name), PID, PID, 6) == ALLOWED
        for pid in (0, 1, PID + 1, 2**32 - 1, 2**64 - 1, 2**64 - PID):
            assert action(machine, number(machine, name), pid, PID, 9) == NOT_PERMITTED
    prlimit = number(machine, "prlimit64")
    assert action(machine, prlimit, 0, 7, 0, 0x1000) == action(machine, prlimit, PID, 7, 0, 0x1000) == ALLOWED
    for pid, new in ((0, 0x1000), (0, 1 << 40), (PID, 1), (PID + 1, 0), (1, 0)):
        assert action(machine, prlimit, pid, 7, new, 0) == NOT_PERMITTED


@machines
def test_some_calls_are_allowed_only_with_harmless_arguments(machine: str) -> None:
    assert action(machine, number(machine, "fcntl"), 3, 3) == ALLOWED
    assert action(machine, number(machine, "fcntl"), 3, 8) == NOT_PERMITTED  # F_SETOWN
    assert action(machine, number(machine, "ioctl"), 3, 0x5401) == ALLOWED
    assert action(machine, number(machine, "ioctl"), 3, 0x5412) == NOT_PERMITTED  # TIOCSTI
    assert action(machine, number(machine, "prctl"), 15) == ALLOWED
    for option in (1, 4, 22, 24, 38, 0x59616D61):
        assert action(machine, number(machine, "prctl"), option) == NOT_PERMITTED


@machines
def test_a_program_may_execute_and_a_child_not(machine: str) -> None:
    execve = number(machine, "execve")
    assert action(machine, execve) == NOT_THERE
    assert action(machine, execve, execute=True) == ALLOWED
    for name in ("clone", "clone3", "socket", "connect", "ptrace"):
        for execute in (False, True):
            assert action(machine, number(machine, name), execute=execute) == NOT_THERE


@machines
@given(st.integers(0, 2**32 - 1))
def test_calls_of_another_architecture_end_the_process(machine: str, architecture: int) -> None:
    expected = ALLOWED if architecture == ARCHITECTURES[machine] else KILLED
    assert action(machine, number(machine, "read"), architecture=architecture) == expected


@machines
@given(st.integers(600, 2**32 - 1))
def test_a_call_of_a_later_kernel_or_of_another_table_is_not_there(machine: str, unknown: int) -> None:
    assert action(machine, unknown) == NOT_THERE
