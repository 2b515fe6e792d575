"""Tiny seeded checkpoints of the families beside ColQwen2, and what the published processors and classes make of them.

Nothing here uses Pagemill's code: the tests compare with it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    NeoMMEConfig,
    NeoMMEForRetrieval,
    NeoMMEProcessor,
)
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.support.tiny_colqwen import DIM, HIDDEN, make_tokenizer, seed_weights
from tests.support.torchvision_stand_in import torchvision_stand_in

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """`make` writes a checkpoint. `pages` and `queries` embed a batch by the published processor and network."""

    name: str
    make: Callable[[Path], Path]
    pages: Callable[[Any, Path, Sequence[NDArray[Any]]], list[Rows]]
    queries: Callable[[Any, Path, Sequence[str]], list[Rows]]


def _rows(output: Any, mask: torch.Tensor) -> list[Rows]:
    return [one[kept.bool()].numpy() for one, kept in zip(output.embeddings, mask, strict=True)]


COLPALI_SIDE_PX: Final = 56
COLPALI_TOKENS: Final = 16


def make_colpali(folder: Path) -> Path:
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")
    tokenizer = make_tokenizer(
        special, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images = SiglipImageProcessorPil(size={"height": COLPALI_SIDE_PX, "width": COLPALI_SIDE_PX})
    images.image_seq_length = COLPALI_TOKENS
    processor = ColPaliProcessor(image_processor=images, tokenizer=tokenizer)
    text = {
        "model_type": "gemma",
        "vocab_size": len(processor.tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,  # with head_dim 32 outputs, the least that bitsandbytes repacks
        "head_dim": 16,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": COLPALI_SIDE_PX,
        "patch_size": 14,
        "projection_dim": HIDDEN,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "paligemma",
        "text_config": text,
        "vision_config": vision,
        "projection_dim": HIDDEN,
        "hidden_size": HIDDEN,
        "image_token_index": processor.image_token_id,
        "image_token_id": processor.image_token_id,
    }
    seed_weights(ColPaliForRetrieval(ColPaliConfig(vlm_config=vlm, embedding_dim=DIM))).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.inference_mode()
def _colpali_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    inputs = ColPaliProcessor.from_pretrained(folder).process_images([Image.fromarray(page) for page in pages])
    return _rows(network(**inputs), inputs["attention_mask"])


@torch.inference_mode()
def _colpali_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    inputs = ColPaliProcessor.from_pretrained(folder).process_queries(list(queries))
    return _rows(network(**inputs), inputs["attention_mask"])


COLPALI: Final = TinyFamily("colpali", make_colpali, _colpali_pages, _colpali_queries)


TILE_PX: Final = 64
LONGEST_PX: Final = 4 * TILE_PX
TILE_TOKENS: Final = 4


def make_colmodernvbert(folder: Path) -> Path:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ("[PAD]", "[CLS]", "[SEP]", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tokenizer = make_tokenizer((*special, *places), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": LONGEST_PX}, max_image_size={"longest_edge": TILE_PX}, return_row_col_info=True
    )
    processor = ColModernVBertProcessor(image_processor=images, tokenizer=tokenizer, image_seq_len=TILE_TOKENS)
    text = {
        "model_type": "modernbert",
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "local_attention": 16,
        "global_attn_every_n_layers": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": TILE_PX,
        "patch_size": 16,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "modernvbert",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": processor.image_token_id,
        "pixel_shuffle_factor": 2,
    }
    config = ColModernVBertConfig(vlm_config=vlm, embedding_dim=DIM)
    seed_weights(ColModernVBertForRetrieval(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _colmodernvbert_processor(folder: Path) -> Any:
    images = Idefics3ImageProcessorPil.from_pretrained(folder)
    return ColModernVBertProcessor.from_pretrained(folder, image_processor=images)


@torch.inference_mode()
def _colmodernvbert_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    inputs = _colmodernvbert_processor(folder).process_images([Image.fromarray(page) for page in pages])
    return _rows(network(**inputs), inputs["attention_mask"])


@torch.inference_mode()
def _colmodernvbert_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    inputs = _colmodernvbert_processor(folder).process_queries(list(queries))
    return _rows(network(**inputs), inputs["attention_mask"])


COLMODERNVBERT: Final = TinyFamily(
    "colmodernvbert", make_colmodernvbert, _colmodernvbert_pages, _colmodernvbert_queries
)


PATCH_PX: Final = 16
_NEOMME_TEMPLATE: Final = (
    "{%- set content = messages[0].content -%}"
    "{%- if content is not string and content[0].type == 'text' -%}{%- set content = content[0].text -%}{%- endif -%}"
    "{%- if content is not string -%}{%- set content = image_token -%}{%- endif -%}"
    "{%- if task == 'query' -%}{{- query_token + content + mask_token * 10 -}}"
    "{%- else -%}{{- document_token + content -}}{%- endif -%}"
)


def make_neomme(folder: Path, **images: Any) -> Path:
    """`images`: settings of its image processor."""
    special = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>", "<doc>", "<img>", "<query>", "<row>")
    extra = {"document_token": "<doc>", "image_token": "<img>", "query_token": "<query>", "row_token": "<row>"}
    tokenizer = make_tokenizer(
        special,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        mask_token="<mask>",
        extra_special_tokens=extra,
        chat_template=_NEOMME_TEMPLATE,
    )
    config = NeoMMEConfig(
        vocab_size=len(tokenizer),
        embedding_rank=32,
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        patch_size=PATCH_PX,
        embedding_dim=DIM,
        pad_token_id=tokenizer.pad_token_id,
        document_token_id=tokenizer.document_token_id,
        image_token_id=tokenizer.image_token_id,
    )
    seed_weights(NeoMMEForRetrieval(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"image_processor_type": "NeoMMEImageProcessor", "patch_size": PATCH_PX, **images}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def neomme_processor(folder: Path) -> Any:
    """The published processor, on a stand-in for torchvision where that is not installed."""
    images, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
    with torchvision_stand_in():
        module = importlib.import_module("transformers.models.neomme.image_processing_neomme")
        processor = module.NeoMMEImageProcessor(**images)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return NeoMMEProcessor(processor, tokenizer, chat_template=tokenizer.chat_template)


def _neomme_rows(network: Any, folder: Path, contents: Sequence[Any], task: str) -> list[Rows]:
    with torchvision_stand_in():
        inputs = neomme_processor(folder).apply_chat_template(
            [[{"role": "user", "content": [content]}] for content in contents],
            task=task,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": "longest"},
        )
    return _rows(network(**inputs), inputs["attention_mask"])


@torch.inference_mode()
def _neomme_pages(network: Any, folder: Path, pages: Sequence[NDArray[Any]]) -> list[Rows]:
    contents = [{"type": "image", "image": Image.fromarray(page)} for page in pages]
    return _neomme_rows(network, folder, contents, "document")


@torch.inference_mode()
def _neomme_queries(network: Any, folder: Path, queries: Sequence[str]) -> list[Rows]:
    return _neomme_rows(network, folder, [{"type": "text", "text": query} for query in queries], "query")


NEOMME: Final = TinyFamily("neomme", make_neomme, _neomme_pages, _neomme_queries)
FAMILIES: Final = (COLPALI, COLMODERNVBERT, NEOMME)
