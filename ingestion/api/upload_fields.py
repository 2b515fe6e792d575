"""The form fields of an upload that apply to all of its files."""

from __future__ import annotations

import json
from typing import Any, Final

from ingestion.errors import BadRequest
from ingestion.model import Priority, check_key, check_metadata, check_priority, check_tags
from ingestion.submit import UploadOptions

FIELDS: Final = ("metadata", "tags", "key", "duplicates", "priority")
_STORE: Final = "store"
_SKIP: Final = "skip"

FORM_PROPERTIES: Final[dict[str, Any]] = {
    "metadata": {"type": "string", "description": 'a flat JSON object, as in {"team": "legal", "year": 2026}'},
    "tags": {"type": "array", "items": {"type": "string"}, "description": "one field for each tag"},
    "key": {"type": "string", "description": "the name of all versions of the file; the request has one file then"},
    "duplicates": {"type": "string", "enum": [_STORE, _SKIP], "default": _STORE},
    "priority": {
        "type": "string",
        "enum": [one.value for one in Priority],
        "description": "interactive: a person waits for the files, and they go before bulk",
    },
}
"""Of the form, for the OpenAPI document."""


class UploadFields:
    """Collects the fields. Files are accepted while the form arrives, so fields must come before the first file."""

    def __init__(self, priority: Priority) -> None:
        """`priority`: of files without this field."""
        self._priority = priority
        self._values: dict[str, str] = {}
        self._tags: list[str] = []
        self._has_files = False
        self._options: UploadOptions | None = None

    def add(self, name: str, value: bytes) -> None:
        """Raises BadRequest for a field after a file, a field that comes twice, or that is not UTF-8."""
        try:
            self._add(name, value.decode())
        except UnicodeDecodeError as error:
            raise BadRequest(f"the form field {name!r} is not UTF-8") from error

    def _add(self, name: str, value: str) -> None:
        if self._has_files:
            raise BadRequest(f"the form field {name!r} comes after a file; send it before the files")
        if name == "tags":
            self._tags += _tags_in(value)
        elif name in self._values:
            raise BadRequest(f"the form field {name!r} comes twice; send it once")
        else:
            self._values[name] = value

    def options(self) -> UploadOptions:
        """The fields that came before the first file. Call it for each file. Raises BadRequest."""
        if self._options is None:
            self._has_files = True
            self._options = UploadOptions(
                metadata=check_metadata(_json_of("metadata", self._values.get("metadata") or "{}")),
                tags=check_tags(self._tags),
                key=check_key(self._values.get("key", "")),
                skip_duplicates=_skips(self._values.get("duplicates") or _STORE),
                priority=check_priority(self._values.get("priority") or self._priority),
            )
            return self._options
        if self._options.key:
            raise BadRequest("an upload with a key has one file; send the other files in requests of their own")
        return self._options


def _tags_in(value: str) -> list[str]:
    """The tag, or those of a JSON array. An empty field has none."""
    if not value.lstrip().startswith("["):
        return [value] if value else []
    found = _json_of("tags", value)
    return list(check_tags(found))


def _json_of(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the form field {name!r} is not JSON: {str(error)[:200]}") from error


def _skips(value: str) -> bool:
    if value not in (_STORE, _SKIP):
        raise BadRequest(f"the form field 'duplicates' is {value[:80]!r}; it must be {_STORE!r} or {_SKIP!r}")
    return value == _SKIP
