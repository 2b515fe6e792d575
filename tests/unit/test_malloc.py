"""Arenas of the C library, counted in a process of their own."""

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
everybody = threading.Barrier(12)

def allocate():
    everybody.wait()
    for _ in range(100):
        libc.malloc(10_000)

threads = [threading.Thread(target=allocate) for _ in range(everybody.parties)]
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


def arenas(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", _COUNT_ARENAS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_two_arenas() -> None:
    assert arenas("shared") <= 2 < arenas("as they are")
