"""The architectures of the families, by classes of transformers, and their published sizes. Nothing is fetched.

The tokenizers are small: they make more tokens of a query than the published ones do, and the same of a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2Config,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
    NeoMMEConfig,
    NeoMMEForRetrieval,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

NewTokenizer = Callable[..., PreTrainedTokenizerFast]
"""Takes the special tokens, the padding token first, and the options of PreTrainedTokenizerFast."""

_NEOMME_TEMPLATE: Final = (
    "{%- set content = messages[0].content -%}"
    "{%- if content is not string and content[0].type == 'text' -%}{%- set content = content[0].text -%}{%- endif -%}"
    "{%- if content is not string -%}{%- set content = image_token -%}{%- endif -%}"
    "{%- if task == 'query' -%}{{- query_token + content + mask_token * 10 -}}"
    "{%- else -%}{{- document_token + content -}}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Fields of the configurations of a network and of its images. A vocabulary is that of the tokenizer by default.

    NeoMME has one network and one configuration: `text`.
    """

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    dim: int
    image_px: int = 0
    """Side of a tile or of a square page, in pixels."""
    image_tokens: int = 0
    """Of a tile or of a square page."""
    vlm: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The network of a family. `write_processor` writes processor and tokenizer into a folder; `new_config` gets its
    result, whose token ids it needs."""

    network_class: Any
    sizes: Sizes
    write_processor: Callable[[Path, Sizes, NewTokenizer], Any]
    new_config: Callable[[Any, Sizes], Any]
    new_tokenizer: NewTokenizer

    def prepare(self, folder: Path) -> Any:
        """Write processor and tokenizer into `folder`. Returns the configuration of the network."""
        return self.new_config(self.write_processor(folder, self.sizes, self.new_tokenizer), self.sizes)


def _colqwen2_processor(folder: Path, sizes: Sizes, new_tokenizer: NewTokenizer) -> Any:
    names = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = new_tokenizer("<|endoftext|>", names, eos_token="<|im_end|>", padding_side="left")
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 768})
    ColQwen2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return tokenizer


def _colqwen2_config(tokenizer: Any, sizes: Sizes) -> ColQwen2Config:
    special = tokenizer.convert_tokens_to_ids
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": special("<|im_end|>"),
        **sizes.text,
    }
    vlm = {
        "model_type": "qwen2_vl",
        "text_config": text,
        "vision_config": {"model_type": "qwen2_vl_vision", **sizes.vision},
        "image_token_id": special("<|image_pad|>"),
        "video_token_id": special("<|video_pad|>"),
        "vision_start_token_id": special("<|vision_start|>"),
        "vision_end_token_id": special("<|vision_end|>"),
    }
    return ColQwen2Config(vlm_config=vlm, embedding_dim=sizes.dim)


_COLQWEN2: Final = Sizes(
    text={
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    vision={"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
    dim=128,
)
"""vidore/colqwen2-v1.0-hf: Qwen2-VL 2B."""


def _colpali_processor(folder: Path, sizes: Sizes, new_tokenizer: NewTokenizer) -> Any:
    names = ("<eos>", "<bos>", "<unk>", "<image>")
    tokenizer = new_tokenizer(
        "<pad>", names, eos_token="<eos>", bos_token="<bos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images: Any = SiglipImageProcessorPil(size={"height": sizes.image_px, "width": sizes.image_px})
    images.image_seq_length = sizes.image_tokens
    processor = ColPaliProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    return processor.tokenizer


def _colpali_config(tokenizer: Any, sizes: Sizes) -> ColPaliConfig:
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    width = sizes.text["hidden_size"]
    text = {
        "model_type": "gemma",
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        **sizes.text,
    }
    vlm = {
        "model_type": "paligemma",
        "text_config": text,
        "vision_config": {**_siglip(sizes), "projection_dim": width},
        "projection_dim": width,
        "hidden_size": width,
        "image_token_index": image_token,
        "image_token_id": image_token,
    }
    return ColPaliConfig(vlm_config=vlm, embedding_dim=sizes.dim)


def _siglip(sizes: Sizes) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "image_size": sizes.image_px,
        "vision_use_head": False,
        **sizes.vision,
    }


_COLPALI: Final = Sizes(
    text={
        "vocab_size": 257_216,
        "hidden_size": 2048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
    },
    vision={
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    dim=128,
    image_px=448,
    image_tokens=1024,
)
"""vidore/colpali-v1.3-hf: PaliGemma 3B for 448 pixels."""


def _colmodernvbert_processor(folder: Path, sizes: Sizes, new_tokenizer: NewTokenizer) -> Any:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    names = ("[CLS]", "[SEP]", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places)
    tokenizer = new_tokenizer("[PAD]", names, cls_token="[CLS]", sep_token="[SEP]")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": _TILES_A_SIDE * sizes.image_px},
        max_image_size={"longest_edge": sizes.image_px},
        return_row_col_info=True,
    )
    processor = ColModernVBertProcessor(image_processor=images, tokenizer=tokenizer, image_seq_len=sizes.image_tokens)
    processor.save_pretrained(folder)
    return tokenizer


def _colmodernvbert_config(tokenizer: Any, sizes: Sizes) -> ColModernVBertConfig:
    text = {
        "model_type": "modernbert",
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        **sizes.text,
    }
    vlm = {
        "model_type": "modernvbert",
        "text_config": text,
        "vision_config": _siglip(sizes),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        **sizes.vlm,
    }
    return ColModernVBertConfig(vlm_config=vlm, embedding_dim=sizes.dim)


_TILES_A_SIDE: Final = 4
_COLMODERNVBERT: Final = Sizes(
    text={
        "vocab_size": 50_408,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
    },
    vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "patch_size": 16,
    },
    vlm={"pixel_shuffle_factor": 4},
    dim=128,
    image_px=512,
    image_tokens=64,
)
"""ModernVBERT/colmodernvbert: ModernBERT with 150 M, SigLIP 2 base for tiles of 512 pixels."""


def _neomme_processor(folder: Path, sizes: Sizes, new_tokenizer: NewTokenizer) -> Any:
    names = ("<bos>", "<eos>", "<unk>", "<mask>", "<doc>", "<img>", "<query>", "<row>")
    extra = {"document_token": "<doc>", "image_token": "<img>", "query_token": "<query>", "row_token": "<row>"}
    special = {"eos_token": "<eos>", "unk_token": "<unk>", "mask_token": "<mask>"}
    tokenizer = new_tokenizer("<pad>", names, extra_special_tokens=extra, chat_template=_NEOMME_TEMPLATE, **special)
    tokenizer.save_pretrained(folder)
    settings = {"image_processor_type": "NeoMMEImageProcessor", "patch_size": sizes.text["patch_size"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return tokenizer


def _neomme_config(tokenizer: Any, sizes: Sizes) -> NeoMMEConfig:
    fields = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "document_token_id": tokenizer.document_token_id,
        "image_token_id": tokenizer.image_token_id,
        "embedding_dim": sizes.dim,
        **sizes.text,
    }
    return NeoMMEConfig(**fields)


_NEOMME: Final = Sizes(text={"vocab_size": 131_072, "patch_size": 32}, vision={}, dim=128)
"""Hcompany/NeoMME-260M-Retriever: the defaults of transformers."""


def _tokenizer(pad: str, names: tuple[str, ...], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges, with these special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in (pad, *names)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, **options)  # type: ignore[no-untyped-call]


ARCHITECTURES: Final = {
    "colqwen2": Architecture(ColQwen2ForRetrieval, _COLQWEN2, _colqwen2_processor, _colqwen2_config, _tokenizer),
    "colpali": Architecture(ColPaliForRetrieval, _COLPALI, _colpali_processor, _colpali_config, _tokenizer),
    "colmodernvbert": Architecture(
        ColModernVBertForRetrieval, _COLMODERNVBERT, _colmodernvbert_processor, _colmodernvbert_config, _tokenizer
    ),
    "neomme": Architecture(NeoMMEForRetrieval, _NEOMME, _neomme_processor, _neomme_config, _tokenizer),
}
"""By the name of the family."""
