"""The files of a checkpoint, in a folder or fetched from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ingestion.errors import DependencyUnavailable, ModelNotFound

_PATTERNS: Final = ("*.json", "*.txt", "*.jinja", "*.safetensors")
_HEADER_LENGTH: Final = struct.Struct("<Q")
_LARGEST_HEADER_BYTES: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Weights:
    """A complete checkpoint. `version`: its commit on the hub, or the digest of a local folder."""

    folder: Path
    version: str
    parameters: int


def find_weights(model: str, revision: str) -> Weights:
    """Find the checkpoint `model`, a folder or a name on the hub. Fetches several GB that are not in the hub's cache.

    Raises ModelNotFound, DependencyUnavailable.
    """
    local = Path(model).expanduser()
    is_local = local.is_dir()
    if not is_local and (local.is_absolute() or model.startswith((".", "~"))):
        raise ModelNotFound(
            f"folder {model} does not exist; set PAGEMILL_VISUAL_MODEL to a checkpoint or a name on the hub"
        )
    folder = local if is_local else _fetch(model, revision)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"{folder} is an adapter (LoRA), not a whole model; merge it into its base model, or set "
            "PAGEMILL_VISUAL_MODEL to a checkpoint that is merged, such as vidore/colqwen2-v1.0-hf"
        )
    files = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not files:
        raise ModelNotFound(
            f"{folder} has no config.json or no *.safetensors: PAGEMILL_VISUAL_MODEL has to name a whole checkpoint "
            "in the format of transformers, such as vidore/colqwen2-v1.0-hf"
        )
    version = _digest([*sorted(folder.glob("*.json")), *files]) if is_local else folder.name
    return Weights(folder, version, sum(_parameters(file) for file in files))


def _fetch(model: str, revision: str) -> Path:
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(_PATTERNS)))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ModelNotFound(
            f"the Hugging Face hub has no {model} at revision {revision} that this machine may read; check "
            "PAGEMILL_VISUAL_MODEL and PAGEMILL_VISUAL_REVISION, and HF_TOKEN where it is private"
        ) from error
    except Exception as error:  # a download fails with errors of the network, the disk and three libraries
        raise DependencyUnavailable(
            "the Hugging Face hub",
            f"{model} is not in this machine's cache and cannot be fetched ({type(error).__name__}). Where there is a "
            f"network, run `hf download {model} --local-dir DIR`, and set PAGEMILL_VISUAL_MODEL to that folder",
        ) from error


def _parameters(file: Path) -> int:
    """Parameters of a safetensors file, from its header: uint64 length, then JSON with the shape of each tensor."""
    try:
        with file.open("rb") as source:
            (length,) = _HEADER_LENGTH.unpack(source.read(_HEADER_LENGTH.size))
            header = json.loads(source.read(min(length, _LARGEST_HEADER_BYTES)))
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelNotFound(f"{file} is damaged, or is not a safetensors file; fetch it again") from error


def _digest(files: list[Path]) -> str:
    """SHA-256 over the files' digests in order, 12 hexadecimal digits. Takes seconds for several GB."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            whole.update(hashlib.file_digest(source, "sha256").digest())
    return whole.hexdigest()[:12]
