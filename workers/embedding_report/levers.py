"""Changes that may make a GPU faster and that no CPU can judge. Each is one switch: `--levers NAME`.

A lever changes the loaded model for the duration of a block. The section measures batches without it, with it, and
without it again, and how far the vectors are from those without it. None of them is used by the product.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import structlog
import torch
from torch.nn import functional
from transformers.utils import import_utils

from ingestion.errors import WorkerFault
from ingestion.model import Page, Vectors
from workers.embedding.visual.family import ModelInput
from workers.embedding_report.context import Context, Deadline
from workers.embedding_report.samples import mixed_pages

log = structlog.get_logger(__name__)

_TURNS: Final = 3
_BATCHES: Final = 3
"""Of a turn: a copy on its own stream overlaps with the batch before."""

VISION_TOWERS: Final = ("vlm.visual", "vlm.vision_tower", "vlm.vision_model")
"""Of ColQwen2, ColPali and ColModernVBert. NeoMME has none."""
_RESIZED_ONCE: Final = ("colqwen2", "colpali")

Prepare = Callable[[Page], ModelInput]
Lever = Callable[[Context], AbstractContextManager[Prepare]]
"""Changes the model of the context during the block, and gives what prepares a page there."""


def levers(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Each lever for its share of the time. A lever that fails says why, and the next one follows."""
    found: dict[str, Any] = {}
    names = context.options.levers
    for number, name in enumerate(names):
        own = Deadline.after(deadline.left_s / (len(names) - number))
        try:
            found[name] = _measured(context, LEVERS[name], own)
        except Exception as error:  # of compilers, kernels and drivers
            log.exception("lever failed", lever=name)
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def _measured(context: Context, lever: Lever, deadline: Deadline) -> dict[str, Any]:
    pages = list(itertools.islice(mixed_pages(context.is_small), _BATCHES * context.best_pages))
    usual = context.model.prepare
    before, _ = _embedded(context, usual, pages)  # warms up
    without = [_embedded(context, usual, pages)[1] for _ in range(_TURNS)]
    began = time.perf_counter()
    with lever(context) as prepare:
        after, _ = _embedded(context, prepare, pages)  # compiles, where the lever does
        first_s = time.perf_counter() - began
        with_lever = [_embedded(context, prepare, pages)[1]]
        while len(with_lever) < _TURNS and not deadline.is_past:
            with_lever.append(_embedded(context, prepare, pages)[1])
    without.append(_embedded(context, usual, pages)[1])  # the device may have become slower meanwhile
    distances = [
        float(1 - (one * other).sum(axis=1).min()) if one.shape == other.shape else float(np.inf)
        for one, other in zip(before, after, strict=True)
    ]
    return {
        "pages_per_s_without": len(pages) / statistics.median(without),
        "pages_per_s_with": len(pages) / statistics.median(with_lever),
        "gain": statistics.median(without) / statistics.median(with_lever),
        "first_call_s": first_s,
        "largest_cosine_distance": max(distances),
    }


def _embedded(context: Context, prepare: Prepare, pages: Sequence[Page]) -> tuple[list[Vectors], float]:
    """Vectors and seconds of all pages in batches. A thread prepares the next batch meanwhile, as in the batcher."""
    size = context.best_pages
    batches = [pages[at : at + size] for at in range(0, len(pages), size)]

    def prepared(batch: Sequence[Page]) -> list[ModelInput]:
        with _side_stream(context.device):
            return [prepare(page) for page in batch]

    found: list[Vectors] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(prepared, batches[0])
        for number in range(len(batches)):
            batch = coming.result()
            if number + 1 < len(batches):
                coming = thread.submit(prepared, batches[number + 1])
            found += context.model.finish(context.model.forward(batch), batch)
    return found, time.perf_counter() - started


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """What the block sends to a GPU runs beside the forward, and is complete at its end."""
    if device.type != "cuda":
        yield
        return
    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


@contextmanager
def _compiled(context: Context, **options: Any) -> Iterator[Prepare]:
    """torch.compile for the vision tower. On a CPU the traced graph runs without a compiler."""
    tower = _vision_tower(context.model.network)
    if context.device.type == "cpu":
        options = {"backend": "eager", "dynamic": True}
    usual = tower.forward
    tower.forward = torch.compile(usual, **options)
    try:
        yield context.model.prepare
    finally:
        tower.forward = usual
        torch.compiler.reset()


def _vision_tower(network: Any) -> Any:
    for name in VISION_TOWERS:
        try:
            return network.get_submodule(name)
        except AttributeError:
            continue
    raise WorkerFault(f"{type(network).__name__} has no vision tower")


@contextmanager
def _copied_ahead(context: Context) -> Iterator[Prepare]:
    """Images go to the device while the batch before is computed, on the stream of the thread that prepares."""
    yield lambda page: _with_image(context.model.prepare(page), partial(_on_device, context.device))


def _on_device(device: torch.device, image: torch.Tensor) -> torch.Tensor:
    moved = image.to(device, non_blocking=True)
    if device.type == "cuda":  # its memory must not be used again before the forward has read it
        moved.record_stream(torch.cuda.default_stream(device))
    return moved


@contextmanager
def _resized_on_device(context: Context) -> Iterator[Prepare]:
    """The whole page goes to the device as uint8 and is resized there, in float32 and rounded.

    Raises WorkerFault for a family whose image is not the page, resized once by bicubic.
    """
    model = context.model
    if model.family.name not in _RESIZED_ONCE:
        raise WorkerFault(f"{model.family.title} does more to a page than to resize it once by bicubic")

    def prepare(page: Page) -> ModelInput:
        assert page.pixels is not None
        height_px, width_px = model.sizing.size(*page.pixels.shape[:2])
        blank = np.empty((height_px, width_px, 3), np.uint8)
        item = model.prepare(dataclasses.replace(page, pixels=blank))  # tokens and positions alone

        def resized(_: torch.Tensor) -> torch.Tensor:
            whole = _on_device(context.device, torch.from_numpy(np.ascontiguousarray(page.pixels)))
            planes = whole.permute(2, 0, 1)[None].float()
            small = functional.interpolate(planes, (height_px, width_px), mode="bicubic", antialias=True)
            bytes_ = small[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
            return _on_device(context.device, bytes_)

        return _with_image(item, resized)

    yield prepare


def _with_image(item: ModelInput, change: Callable[[torch.Tensor], torch.Tensor]) -> ModelInput:
    return item if item.image is None else dataclasses.replace(item, image=change(item.image))


@contextmanager
def _attention(context: Context, kind: str) -> Iterator[Prepare]:
    network = context.model.network
    usual = network.config._attn_implementation
    if kind == usual:
        raise WorkerFault(f"the model uses {kind} without this lever")
    if kind == "flash_attention_2" and not import_utils.is_flash_attn_2_available():
        raise WorkerFault("FlashAttention 2 is not installed, or this device cannot use it")
    network.set_attn_implementation(kind)
    try:
        yield context.model.prepare
    finally:
        network.set_attn_implementation(usual)


LEVERS: Final[dict[str, Lever]] = {
    "compile-vision": lambda context: _compiled(context, dynamic=True),
    "cuda-graphs": lambda context: _compiled(context, mode="reduce-overhead", dynamic=False),
    "copy-stream": _copied_ahead,
    "device-resize": _resized_on_device,
    "flash-attention": lambda context: _attention(context, "flash_attention_2"),
    "sdpa": lambda context: _attention(context, "sdpa"),
    "eager-attention": lambda context: _attention(context, "eager"),
}
"""By the name of the switch."""
