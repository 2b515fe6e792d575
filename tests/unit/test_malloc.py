"""Arenas and mapped blocks of glibc, counted in a process of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_COUNT_ARENAS = """
import ctypes, os, sys, tempfile, threading
from workers.runtime.malloc import configure_malloc

if sys.argv[1] == "shared":
    configure_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(12)

def allocate():
    barrier.wait()
    for _ in range(100):
        libc.malloc(10_000)

threads = [threading.Thread(target=allocate) for _ in range(barrier.parties)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.TemporaryFile() as report:
    stream = ctypes.c_void_p(libc.fdopen(os.dup(report.fileno()), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    report.seek(0)
    print(report.read().count(b"<heap nr="))
"""


_COUNT_MAPPED = """
import ctypes, sys
from workers.runtime.malloc import configure_malloc

if sys.argv[1] == "configured":
    configure_malloc()

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.mallinfo2.restype = Mallinfo2
before = libc.mallinfo2().hblks
libc.free(ctypes.c_void_p(libc.malloc(16 * 1024**2)))
blocks = [libc.malloc(2 * 1024**2) for _ in range(4)]
print(libc.mallinfo2().hblks - before)
"""


def counted(code: str, mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


@glibc_only
def test_threads_share_two_arenas() -> None:
    assert counted(_COUNT_ARENAS, "shared") <= 2 < counted(_COUNT_ARENAS, "as they are")


@glibc_only
def test_large_blocks_stay_out_of_the_heap_after_a_larger_one_was_freed() -> None:
    assert counted(_COUNT_MAPPED, "configured") == 4
    assert counted(_COUNT_MAPPED, "as they are") == 0
