"""Load a visual model to its device as the settings say, or raise one error that says what to do."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psutil
import structlog
import torch
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig
from transformers.utils import import_utils
from transformers.utils import logging as transformers_logging

from ingestion import metrics
from ingestion.errors import EmbedderMissing, ModelNotFound, NotEnoughMemory
from ingestion.settings import EmbedderSettings
from workers.embedding.batching.stages import OutOfMemory
from workers.embedding.visual.families import find_family
from workers.embedding.visual.family import Family, FamilyOptions
from workers.embedding.visual.model import VisualModel
from workers.embedding.visual.selftest import verify_model
from workers.embedding.visual.weights import Weights, find_weights

log = structlog.get_logger(__name__)

_NF4_PACKAGES: Final = ("bitsandbytes", "accelerate")
_BYTES_PER_PARAMETER: Final = {"fp32": 4.0, "bf16": 2.0}

_SHARE_FOR_WEIGHTS: Final = 0.5
"""Of the free memory, for weights in BF16; batches need the rest."""

_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`precision`: in which it was loaded. `version`: of its weights. `prompts`: the prompts of its processor."""

    model: VisualModel
    version: str
    prompts: str
    precision: str


def measure_memory(device: torch.device) -> None:
    """Let the metric of reserved GPU memory read what torch has reserved; without a GPU it stays 0."""
    if device.type == "cuda":
        metrics.GPU_MEMORY_RESERVED.set_function(partial(torch.cuda.memory_reserved, device))


def load_model(settings: EmbedderSettings) -> LoadedModel:
    """Load and test the model. Takes seconds to minutes; fetches the weights if they are not in the hub's cache.

    Raises EmbedderMissing, ModelNotFound, DependencyUnavailable, NotEnoughMemory, SelfTestFailed.
    """
    loaded = read_model(settings)
    device = loaded.model.network.device
    with _out_of_memory_translated(type(loaded.model.family), loaded.precision, device):
        verify_model(loaded.model, loaded.precision)
    return loaded


def read_model(settings: EmbedderSettings) -> LoadedModel:
    """As `load_model`, without the self-test. No vector of a model that has not passed it may be stored."""
    device = _device(settings.visual_device)
    weights = find_weights(settings.visual_model, settings.visual_revision)
    family_class = find_family(weights.folder)
    precision = _precision(settings.visual_precision, weights, device)
    _require_packages(precision)
    _require_memory(weights, family_class, precision, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    with _out_of_memory_translated(family_class, precision, device):
        network, processor = _read(weights, family_class, precision, device)
        options = FamilyOptions(
            max_tokens=settings.visual_max_tokens,
            keep_prompt=settings.visual_prompt_tokens == "keep",
            is_pinned=device.type == "cuda",
        )
        model = VisualModel(network, family_class(network, processor, options), pooling=settings.token_pooling)
    measure_memory(device)
    log.info(
        "model loaded",
        family=family_class.name,
        model=settings.visual_model,
        version=weights.version,
        precision=precision,
        device=str(device),
        attention=network.config._attn_implementation,
    )
    return LoadedModel(model, weights.version, family_class.prompts(processor), precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EmbedderMissing(
            f"PAGEMILL_VISUAL_DEVICE is {name}, but torch {torch.__version__} finds no GPU here; install the NVIDIA "
            "driver and a torch built for CUDA, or set it to auto or cpu"
        )
    return torch.device(name)


def _require_packages(precision: str) -> None:
    for package in _NF4_PACKAGES if precision == "nf4" else ():
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise EmbedderMissing(
                f"PAGEMILL_VISUAL_PRECISION is nf4, which needs {package}: pip install 'pagemill[visual]', "
                "or set it to bf16"
            ) from None


def _precision(setting: str, weights: Weights, device: torch.device) -> str:
    """4 bits save memory and not time: they are unpacked to BF16 for each product."""
    if setting != "auto":
        return setting
    weights_bytes = weights.parameters * _BYTES_PER_PARAMETER["bf16"]
    return "bf16" if weights_bytes <= _SHARE_FOR_WEIGHTS * _free_bytes(device) else "nf4"


def _free_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def _require_memory(weights: Weights, family: type[Family], precision: str, device: torch.device) -> None:
    """Checked before: on a CPU the kernel kills a process that is out of memory, without an error to catch."""
    needed_bytes = weights.parameters * _BYTES_PER_PARAMETER.get(precision, family.nf4_bytes_per_parameter)
    free_bytes = _free_bytes(device)
    if needed_bytes > free_bytes:
        free = f"{needed_bytes / _GIB:.1f} GiB are needed for the weights alone, {free_bytes / _GIB:.1f} GiB are free"
        raise NotEnoughMemory(_not_enough_memory(family, precision, device, free))


@contextmanager
def _out_of_memory_translated(family: type[Family], precision: str, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, OutOfMemory) as error:
        reason = str(error).partition("\n")[0]
        raise NotEnoughMemory(_not_enough_memory(family, precision, device, reason)) from error


def _not_enough_memory(family: type[Family], precision: str, device: torch.device, reason: str) -> str:
    smaller = "" if precision == "nf4" else ", set PAGEMILL_VISUAL_PRECISION to nf4"
    advice = f"Free some{smaller}, or use another machine"
    return f"{family.title} in {precision} does not fit the memory of {device}: {reason}. {advice}"


def _read(weights: Weights, family: type[Family], precision: str, device: torch.device) -> tuple[Any, Any]:
    """The network and its processor. Raises ModelNotFound if the files are not of the family."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"device_map": {"": device}} if precision == "nf4" else {}
    if precision == "nf4":
        options["quantization_config"] = quantisation(family.not_quantised)
    try:
        network, report = family.network_class.from_pretrained(
            weights.folder,
            dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
            attn_implementation=_attention(precision, device),
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
        processor = family.read_processor(weights.folder)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelNotFound(
            f"{weights.folder} is not a {family.title} that transformers can read: {type(error).__name__}: {error}"
        ) from error
    if absent := sorted(report["missing_keys"]):
        # transformers would initialise them at random.
        raise ModelNotFound(
            f"{weights.folder} lacks {len(absent)} of {family.title}'s weights, for example {absent[0]}; set "
            f"PAGEMILL_VISUAL_MODEL to a whole checkpoint such as {family.checkpoint}, not to an adapter or another "
            "model"
        )
    return network.to(device).eval() if precision != "nf4" else network.eval(), processor


def quantisation(not_quantised: Sequence[str]) -> BitsAndBytesConfig:
    """NF4 with double quantisation and BF16 compute (QLoRA, arXiv 2305.14314)."""
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(not_quantised),
    )


def _attention(precision: str, device: torch.device) -> str:
    """FlashAttention 2 if it is installed and usable: it needs a GPU and 16-bit numbers."""
    usable = device.type == "cuda" and precision != "fp32" and import_utils.is_flash_attn_2_available()
    return "flash_attention_2" if usable else "sdpa"
