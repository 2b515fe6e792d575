"""What the published processors and classes of each family make of a tiny checkpoint.

Nothing that computes here is Pagemill's: the tests compare with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    AutoTokenizer,
    ColModernVBertProcessor,
    ColPaliProcessor,
    ColQwen2Processor,
    NeoMMEProcessor,
)
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from tests.support.torchvision_stand_in import torchvision_stand_in

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """`pages` and `queries` embed a batch by the published processor and network of a checkpoint.

    `resized`: largest difference of a component where Pagemill and the processor resize a page by other code.
    """

    name: str
    pages: Callable[[Any, Path, Sequence[NDArray[Any]]], list[Rows]]
    queries: Callable[[Any, Path, Sequence[str]], list[Rows]]
    resized: float


def _images(pages: Sequence[NDArray[Any]]) -> list[Image.Image]:
    return [Image.fromarray(page) for page in pages]


def _rows(embeddings: torch.Tensor, mask: torch.Tensor) -> list[Rows]:
    return [one[kept.bool()].numpy() for one, kept in zip(embeddings, mask, strict=True)]


_COLQWEN2_SIZE: Final = {"shortest_edge": 3136, "longest_edge": 768 * 784}


@torch.inference_mode()
def _colqwen2_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    """Qwen2-VL makes the positions itself."""
    processor = ColQwen2Processor.from_pretrained(folder)
    inputs = processor.process_images(images=_images(pages), size=_COLQWEN2_SIZE)
    patches = [
        pixels[: grid.prod()] for pixels, grid in zip(inputs["pixel_values"], inputs["image_grid_thw"], strict=True)
    ]
    hidden = network.vlm(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        pixel_values=torch.cat(patches),
        image_grid_thw=inputs["image_grid_thw"],
        mm_token_type_ids=(inputs["input_ids"] == processor.image_token_id).int(),
    ).last_hidden_state
    network.vlm.rope_deltas = None  # left behind by the call, and added to the positions of the next
    return _rows(_projected(network, hidden), inputs["attention_mask"])


@torch.inference_mode()
def _colqwen2_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    inputs = ColQwen2Processor.from_pretrained(folder).process_queries(text=list(queries))
    return _rows(_projected(network, network.vlm(**inputs).last_hidden_state), inputs["attention_mask"])


def _projected(network: Any, hidden: torch.Tensor) -> torch.Tensor:
    embeddings: torch.Tensor = network.embedding_proj_layer(hidden)
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


@torch.inference_mode()
def _colpali_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    inputs = ColPaliProcessor.from_pretrained(folder).process_images(_images(pages))
    return _rows(network(**inputs).embeddings, inputs["attention_mask"])


@torch.inference_mode()
def _colpali_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    inputs = ColPaliProcessor.from_pretrained(folder).process_queries(list(queries))
    return _rows(network(**inputs).embeddings, inputs["attention_mask"])


def _colmodernvbert_processor(folder: Path) -> Any:
    images = Idefics3ImageProcessorPil.from_pretrained(folder)
    return ColModernVBertProcessor.from_pretrained(folder, image_processor=images)


@torch.inference_mode()
def _colmodernvbert_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    inputs = _colmodernvbert_processor(folder).process_images(_images(pages))
    return _rows(network(**inputs).embeddings, inputs["attention_mask"])


@torch.inference_mode()
def _colmodernvbert_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    inputs = _colmodernvbert_processor(folder).process_queries(list(queries))
    return _rows(network(**inputs).embeddings, inputs["attention_mask"])


def _neomme_processor(folder: Path) -> Any:
    """On a stand-in for torchvision where that is not installed."""
    images, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
    with torchvision_stand_in():
        module = importlib.import_module("transformers.models.neomme.image_processing_neomme")
        processor = module.NeoMMEImageProcessor(**images)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return NeoMMEProcessor(processor, tokenizer, chat_template=tokenizer.chat_template)


def _neomme_rows(network: Any, folder: Path, contents: Sequence[Any], task: str) -> list[Rows]:
    with torchvision_stand_in():
        inputs = _neomme_processor(folder).apply_chat_template(
            [[{"role": "user", "content": [content]}] for content in contents],
            task=task,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": "longest"},
        )
    return _rows(network(**inputs).embeddings, inputs["attention_mask"])


@torch.inference_mode()
def _neomme_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    contents = [{"type": "image", "image": image} for image in _images(pages)]
    return _neomme_rows(network, folder, contents, "document")


@torch.inference_mode()
def _neomme_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    return _neomme_rows(network, folder, [{"type": "text", "text": query} for query in queries], "query")


FAMILIES: Final = (
    TinyFamily("colqwen2", _colqwen2_pages, _colqwen2_queries, resized=1e-3),
    TinyFamily("colpali", _colpali_pages, _colpali_queries, resized=1e-2),
    TinyFamily("colmodernvbert", _colmodernvbert_pages, _colmodernvbert_queries, resized=1e-5),
    TinyFamily("neomme", _neomme_pages, _neomme_queries, resized=1e-5),
)
