"""The families of visual models. A checkpoint's `model_type` chooses one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Final

from ingestion.errors import ModelNotFound
from workers.embedding.visual.family import Family

_CLASSES: Final = {
    "colqwen2": "ColQwen2",
    "colpali": "ColPali",
    "colmodernvbert": "ColModernVBert",
    "neomme": "NeoMME",
}
"""`model_type` of a checkpoint, which is also the module of its family, and the class there. Modules are imported when
they are used: each imports networks of transformers."""


def find_family(folder: Path) -> type[Family]:
    """Return the family of the checkpoint in `folder`. Raises ModelNotFound for an unknown one."""
    try:
        model_type = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelNotFound(f"{folder / 'config.json'} cannot be read: {error}") from error
    if model_type not in _CLASSES:
        raise ModelNotFound(
            f"{folder} is a checkpoint of the family {model_type!r}, which Pagemill does not know; set "
            f"PAGEMILL_VISUAL_MODEL to one of {', '.join(_CLASSES)}"
        )
    module = importlib.import_module(f"{__name__}.{model_type}")
    family: type[Family] = getattr(module, _CLASSES[model_type])
    return family


def all_families() -> list[type[Family]]:
    """Every family; imports all their modules."""
    return [getattr(importlib.import_module(f"{__name__}.{name}"), title) for name, title in _CLASSES.items()]
