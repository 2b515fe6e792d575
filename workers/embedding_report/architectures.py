"""The architectures of the families at their published sizes, by classes of transformers. Nothing is fetched.

The tokenizers are small: they make more tokens of a query than the published ones do, and the same of a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
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

_DIM: Final = 128
_NEOMME_TEMPLATE: Final = (
    "{%- set content = messages[0].content -%}"
    "{%- if content is not string and content[0].type == 'text' -%}{%- set content = content[0].text -%}{%- endif -%}"
    "{%- if content is not string -%}{%- set content = image_token -%}{%- endif -%}"
    "{%- if task == 'query' -%}{{- query_token + content + mask_token * 10 -}}"
    "{%- else -%}{{- document_token + content -}}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The network of a family. `write_processor` writes processor and tokenizer into a folder; `config` gets its
    result, whose token ids it needs."""

    network_class: Any
    write_processor: Callable[[Path], Any]
    config: Callable[[Any], Any]


def _colqwen2_processor(folder: Path) -> Any:
    names = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer("<|endoftext|>", names, eos_token="<|im_end|>", padding_side="left")
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 768})
    ColQwen2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return tokenizer


def _colqwen2_config(tokenizer: Any) -> ColQwen2Config:
    """vidore/colqwen2-v1.0-hf: Qwen2-VL 2B."""
    special = tokenizer.convert_tokens_to_ids
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "bos_token_id": None,
        "eos_token_id": special("<|im_end|>"),
    }
    vision = {
        "model_type": "qwen2_vl_vision",
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 1536,
        "num_heads": 16,
        "mlp_ratio": 4,
    }
    vlm = {
        "model_type": "qwen2_vl",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": special("<|image_pad|>"),
        "video_token_id": special("<|video_pad|>"),
        "vision_start_token_id": special("<|vision_start|>"),
        "vision_end_token_id": special("<|vision_end|>"),
    }
    return ColQwen2Config(vlm_config=vlm, embedding_dim=_DIM)


def _colpali_processor(folder: Path) -> Any:
    names = ("<eos>", "<bos>", "<unk>", "<image>")
    tokenizer = _tokenizer(
        "<pad>", names, eos_token="<eos>", bos_token="<bos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    images: Any = SiglipImageProcessorPil(size={"height": 448, "width": 448})
    images.image_seq_length = 1024
    processor = ColPaliProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    return processor.tokenizer


def _colpali_config(tokenizer: Any) -> ColPaliConfig:
    """vidore/colpali-v1.3-hf: PaliGemma 3B for 448 pixels."""
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    text = {
        "model_type": "gemma",
        "vocab_size": 257_216,
        "hidden_size": 2048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 448,
        "patch_size": 14,
        "projection_dim": 2048,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "paligemma",
        "text_config": text,
        "vision_config": vision,
        "projection_dim": 2048,
        "hidden_size": 2048,
        "image_token_index": image_token,
        "image_token_id": image_token,
    }
    return ColPaliConfig(vlm_config=vlm, embedding_dim=_DIM)


def _colmodernvbert_processor(folder: Path) -> Any:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    names = ("[CLS]", "[SEP]", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places)
    tokenizer = _tokenizer("[PAD]", names, cls_token="[CLS]", sep_token="[SEP]")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}, return_row_col_info=True
    )
    ColModernVBertProcessor(image_processor=images, tokenizer=tokenizer, image_seq_len=64).save_pretrained(folder)
    return tokenizer


def _colmodernvbert_config(tokenizer: Any) -> ColModernVBertConfig:
    """ModernVBERT/colmodernvbert: ModernBERT with 150 M, SigLIP 2 base for tiles of 512 pixels."""
    text = {
        "model_type": "modernbert",
        "vocab_size": 50_408,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "modernvbert",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pixel_shuffle_factor": 4,
    }
    return ColModernVBertConfig(vlm_config=vlm, embedding_dim=_DIM)


def _neomme_processor(folder: Path) -> Any:
    names = ("<bos>", "<eos>", "<unk>", "<mask>", "<doc>", "<img>", "<query>", "<row>")
    extra = {"document_token": "<doc>", "image_token": "<img>", "query_token": "<query>", "row_token": "<row>"}
    special = {"eos_token": "<eos>", "unk_token": "<unk>", "mask_token": "<mask>"}
    tokenizer = _tokenizer("<pad>", names, extra_special_tokens=extra, chat_template=_NEOMME_TEMPLATE, **special)
    tokenizer.save_pretrained(folder)
    settings = {"image_processor_type": "NeoMMEImageProcessor", "patch_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return tokenizer


def _neomme_config(tokenizer: Any) -> NeoMMEConfig:
    """Hcompany/NeoMME-260M-Retriever: the defaults of transformers."""
    return NeoMMEConfig(
        pad_token_id=tokenizer.pad_token_id,
        document_token_id=tokenizer.document_token_id,
        image_token_id=tokenizer.image_token_id,
    )


def _tokenizer(pad: str, names: tuple[str, ...], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges, with these special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in (pad, *names)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, **options)  # type: ignore[no-untyped-call]


ARCHITECTURES: Final = {
    "colqwen2": Architecture(ColQwen2ForRetrieval, _colqwen2_processor, _colqwen2_config),
    "colpali": Architecture(ColPaliForRetrieval, _colpali_processor, _colpali_config),
    "colmodernvbert": Architecture(ColModernVBertForRetrieval, _colmodernvbert_processor, _colmodernvbert_config),
    "neomme": Architecture(NeoMMEForRetrieval, _neomme_processor, _neomme_config),
}
"""By the name of the family."""
