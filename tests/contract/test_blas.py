"""Threads of a worker's matrix products."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
import workers.cli
from workers.runtime.blas import limit_blas_threads
limit_blas_threads()
import numpy
numpy.ones((512, 512)) @ numpy.ones((512, 512))
print(len(os.listdir("/proc/self/task")))
"""


def test_a_worker_multiplies_in_the_thread_that_asks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout == "1\n"
