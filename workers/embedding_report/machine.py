"""The machine: its device, the versions of libraries, and the rate at which the device multiplies BF16 matrices."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any, Final

import psutil
import torch

_PACKAGES: Final = ("pagemill", "torch", "transformers", "bitsandbytes", "accelerate", "flash-attn", "triton")
_GPU_SIDE: Final = 8192
_CPU_SIDE: Final = 512
_LEAST_S: Final = 1.0
"""A GPU needs about a second of work until its clock is that of long work."""


def describe(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": str(device),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {package: version for package in _PACKAGES if (version := _version(package))},
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        found |= {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "gpu_memory_bytes": total_bytes,
            "gpu_free_bytes": free_bytes,
            "cuda": torch.version.cuda,
        }
    return found


def matrix_rate(device: torch.device) -> float:
    """Measured operations a second of the product of two square BF16 matrices; a multiplication and an addition are
    two operations. The best of several runs of about a third of a second."""
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    right = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < _LEAST_S:
        products, started = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - started) < _LEAST_S / 3:
            for _ in range(8):
                torch.matmul(left, right)
            synchronize(device)
            products += 8
        best = max(best, products * 2 * side**3 / elapsed_s)
    return best


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
