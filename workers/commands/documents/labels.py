"""What the command line says about files to upload: metadata, tags and a key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ingestion.client.views import UploadLabels
from ingestion.errors import BadRequest
from ingestion.model import Priority, Scalar, check_key, check_metadata, check_tags


def labels_of(
    meta: Sequence[str],
    tags: Sequence[str],
    key: str,
    *,
    skip_duplicates: bool,
    priority: Priority | None = None,
) -> UploadLabels:
    """Raises BadRequest."""
    return UploadLabels(
        metadata=check_metadata(dict(_pair(one) for one in meta)),
        tags=check_tags(tags),
        key=check_key(key),
        skip_duplicates=skip_duplicates,
        priority=priority,
    )


def require_one_file(files: Sequence[Path], labels: UploadLabels) -> None:
    """Raises BadRequest where several files would get one key."""
    if labels.key and len(files) != 1:
        raise BadRequest(f"--key names one document, and there are {len(files)} files; run the command for each file")


def _pair(given: str) -> tuple[str, Scalar]:
    """`year=2026` is a number, `signed=true` a truth value, `team=legal` and `zip="01234"` are texts."""
    key, separator, text = given.partition("=")
    if not separator:
        raise BadRequest(f"--meta {given!r} has no '='; write --meta KEY=VALUE")
    try:
        value = json.loads(text)
    except ValueError:
        return key, text
    return key, text if isinstance(value, list | dict) else value
