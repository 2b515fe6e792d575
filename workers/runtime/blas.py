"""How many cores one product of matrices takes."""

from __future__ import annotations

import os


def limit_blas_threads() -> None:
    """In this process and its children numpy's OpenBLAS computes each product by one thread.

    Workers and the API multiply many small matrices side by side. With a thread for each core every product wakes them
    all, and they spin while they wait for each other: measured, that doubles what packing a page costs, and two
    searches at a time score their pages in 54 ms instead of 32. Has to be called before
    numpy is imported; a number that is set in the environment stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
