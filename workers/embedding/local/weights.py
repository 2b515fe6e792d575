"""The tensors of a safetensors file, read in place.

ONNX Runtime maps the file and takes a tensor from its offset: the processes of a machine share one copy in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

_HEADER_LENGTH_BYTES: Final = 8
"""A safetensors file begins with the length of its JSON header, little-endian. Offsets count from the header's end."""


@dataclass(frozen=True, slots=True)
class _Place:
    shape: tuple[int, ...]
    offset_bytes: int
    length_bytes: int


class Weights:
    """Float32 tensors by name."""

    def __init__(self, path: Path) -> None:
        """Reads the header only. Raises ValueError if a tensor of the file that has floats is not float32."""
        self.path = path
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
            header: Mapping[str, Any] = json.loads(file.read(header_bytes))
        start = _HEADER_LENGTH_BYTES + header_bytes
        self._places = {}
        for name, entry in header.items():
            if entry.get("dtype") == "F32":
                first, end = entry["data_offsets"]
                self._places[name] = _Place(tuple(entry["shape"]), start + first, end - first)
            elif str(entry.get("dtype", "")).startswith(("F", "BF")):
                raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")

    def array(self, name: str) -> NDArray[np.float32]:
        """The tensor, mapped. Raises KeyError without it."""
        place = self._places[name]
        return np.memmap(self.path, np.float32, "r", place.offset_bytes, place.shape)

    def reference(self, name: str) -> TensorProto:
        """An ONNX tensor that points into the file. Raises KeyError without it."""
        place = self._places[name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=place.shape)
        tensor.raw_data = b""  # set_external_data asks for the field
        set_external_data(tensor, self.path.name, place.offset_bytes, place.length_bytes)
        tensor.ClearField("raw_data")
        return tensor
