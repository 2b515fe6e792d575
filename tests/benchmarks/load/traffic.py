"""What is sent: short queries, or pictures of pages, as ready-made HTTP requests."""

from __future__ import annotations

import base64
import functools
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from PIL import Image

KNOWN: Final = 256
"""Different queries that a cache may know."""

_PICTURES: Final = 16
"""Different pictures, which take long to make; they are for services without a cache."""

_VOCABULARY: Final = """
    pump valve pressure boiler annual report harbour wind table invoice contract clause engine torque bolt schedule
    warranty safety limit temperature voltage current sensor cable router network password backup recovery budget
    revenue margin forecast risk audit policy employee holiday training medical dose patient study result method
    figure chapter appendix install configure update error message reset alarm filter water oil gas fuel tank level
    maximum minimum average cost price delivery supplier order number date signature legal notice court decision tax
"""
_WORDS: Final = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one kind. `fields` are those of the body beside `input`.

    `known` is the share of requests whose input is one of `KNOWN`; all others are new, for each `seed` different
    ones. `inputs` go into each request. With `picture_px` (height, width) the inputs are pictures.
    """

    fields: dict[str, Any]
    seed: int
    known: float = 0.0
    inputs: int = 1
    picture_px: tuple[int, int] | None = None

    def bodies(self, count: int) -> Iterator[bytes]:
        draw = random.Random(self.seed)
        for _ in range(count):
            one = known_query(draw.randrange(KNOWN)) if draw.random() < self.known else self._new(draw)
            more = [self._new(draw) for _ in range(self.inputs - 1)]
            yield orjson.dumps({**self.fields, "input": [one, *more]})

    def _new(self, draw: random.Random) -> str:
        if self.picture_px is None:
            return " ".join([*draw.choices(_WORDS, k=draw.randint(3, 10)), str(draw.randrange(10**6))])
        return _picture(tuple(self.picture_px), draw.randrange(_PICTURES))


def known_query(number: int) -> str:
    draw = random.Random(f"known {number}")
    return " ".join(draw.choices(_WORDS, k=draw.randint(3, 10)))


@functools.cache
def _picture(size_px: tuple[int, int], seed: int) -> str:
    """A page of black lines on white, as a data URI."""
    draw = np.random.default_rng(seed)
    pixels = np.full((*size_px, 3), 255, np.uint8)
    for top in range(20, size_px[0] - 20, 24):
        words = np.repeat(draw.integers(0, 2, size_px[1] // 8), 8)
        pixels[top : top + 10, : len(words)][:, words == 1] = 0
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()


def http_request(host: str, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "\r\n",
    )
    return "\r\n".join(head).encode() + body
