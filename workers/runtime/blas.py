"""The number of threads of a matrix product."""

from __future__ import annotations

import os


def limit_blas_threads() -> None:
    """In this process and its children numpy's OpenBLAS computes each matrix product in one thread.

    Workers and the API multiply many small matrices side by side. With one thread for each core, every product wakes
    all threads, and they spin while they wait for each other. Measured: packing a page then costs twice the CPU time,
    and two searches at a time score their pages in 54 ms instead of 32. Call this before numpy is imported. A number
    that the environment sets stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
