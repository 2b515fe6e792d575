"""Metadata, tags and keys that users give their documents."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from ingestion.errors import BadRequest
from ingestion.model.names import check_text

Scalar: TypeAlias = str | int | float | bool | None
"""The value of a metadata entry. An integer has at most 64 bits."""
Metadata: TypeAlias = Mapping[str, Scalar]

METADATA_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
MAX_METADATA_KEYS: Final = 64
MAX_METADATA_BYTES: Final = 16 * 1024
"""Of the metadata of a document, as JSON."""
MAX_TAGS: Final = 64
MAX_TAG_CHARS: Final = 100
MAX_KEY_CHARS: Final = 500
_INT64: Final = range(-(2**63), 2**63)


def check_metadata(given: object) -> dict[str, Scalar]:
    """Return `given` as metadata. Raises BadRequest, which names the key that is wrong."""
    if not isinstance(given, Mapping):
        raise BadRequest(f"metadata is {_kind(given)}; send a JSON object, as in {{'team': 'legal', 'year': 2026}}")
    found = {check_metadata_key(key): _checked_value(key, value) for key, value in given.items()}
    if len(found) > MAX_METADATA_KEYS:
        raise BadRequest(f"metadata has {len(found)} keys; at most {MAX_METADATA_KEYS} are accepted")
    size_bytes = len(json.dumps(found, ensure_ascii=False).encode())
    if size_bytes > MAX_METADATA_BYTES:
        raise BadRequest(f"metadata has {size_bytes} bytes of JSON; at most {MAX_METADATA_BYTES} are accepted")
    return found


def check_metadata_key(key: object) -> str:
    if not isinstance(key, str) or not METADATA_KEY.fullmatch(key):
        raise BadRequest(
            f"metadata key {str(key)[:120]!r} is not usable: 1 to 64 ASCII letters, digits, '_', '-' or '.', "
            "beginning with a letter or '_'"
        )
    return key


def check_tags(given: object) -> tuple[str, ...]:
    """Return the tags, each once, in the order given. Raises BadRequest."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise BadRequest(f"tags are {_kind(given)}; send a list of texts")
    tags = tuple(dict.fromkeys(_checked_tag(tag) for tag in given))
    if len(tags) > MAX_TAGS:
        raise BadRequest(f"a document has at most {MAX_TAGS} tags, not {len(tags)}")
    return tags


def check_key(key: str) -> str:
    """Return the key of a document. "" is no key. Raises BadRequest."""
    if len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise BadRequest(f"the key {key[:120]!r} is not usable: 1 to {MAX_KEY_CHARS} printable characters")
    return check_text(key, "the key")


def merged_metadata(known: Metadata, patch: Metadata) -> dict[str, Scalar]:
    """Return `known` after a JSON merge patch (RFC 7396): a value replaces, null removes. Raises BadRequest."""
    merged = {**known, **patch}
    removed = {key for key, value in patch.items() if value is None}
    return check_metadata({key: value for key, value in merged.items() if key not in removed})


def _checked_value(key: str, value: object) -> Scalar:
    if isinstance(value, str):
        return _checked_text(value, f"metadata {key!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"metadata {key!r} is {value}: it must be a finite number")
    if isinstance(value, int) and value not in _INT64:
        raise BadRequest(f"metadata {key!r} is an integer of more than 64 bits; send it as a text")
    if value is None or isinstance(value, int | float):
        return value
    raise BadRequest(f"metadata {key!r} is {_kind(value)}; a value is a text, a number, true, false or null")


def _checked_text(text: str, name: str) -> str:
    if "\0" in text:
        raise BadRequest(f"{name} has a NUL character")
    return check_text(text, name)


def _checked_tag(tag: object) -> str:
    if not isinstance(tag, str) or not 1 <= len(tag) <= MAX_TAG_CHARS or not tag.isprintable():
        raise BadRequest(f"tag {str(tag)[:120]!r} is not usable: 1 to {MAX_TAG_CHARS} printable characters")
    return check_text(tag, "a tag")


def _kind(value: object) -> str:
    match value:
        case str():
            return "a text"
        case Mapping():
            return "an object"
        case Sequence():
            return "a list"
        case None:
            return "null"
    return "a number or a truth value"
