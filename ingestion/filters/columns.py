"""Evaluate filters for many documents at once, column by column."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from sys import getsizeof
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingestion.filters.expression import (
    FIELDS,
    Among,
    And,
    Compared,
    Exists,
    FieldType,
    Filter,
    Has,
    Like,
    Name,
    Not,
    Or,
    Value,
)
from ingestion.filters.matching import value_kind, value_matches, values_of
from ingestion.model import Document

_TAGS: Final = Name("tags")
_FIELDS: Final = tuple(Name(name) for name, type_ in FIELDS.items() if type_ is not FieldType.TAGS)
_ENTRY_BYTES: Final = 8
"""Of a document's value in a column: two integers."""
_DOCUMENT_BYTES: Final = 80
"""Of a document's page key, in an array and in a set."""
_VALUE_BYTES: Final = 170
"""Of a different value in a column, besides the value: a tuple, and an entry of a dict."""

Mask: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int32]


class _Column:
    """The values of one field. A document without the field takes no space."""

    def __init__(self) -> None:
        self._documents = array("i")
        self._value_numbers = array("i")
        self._number_of: dict[tuple[type, Value], int] = {}

    def add(self, document: int, value: Value) -> int:
        """Return the bytes that the value takes."""
        key = value_kind(value), value
        next_number = len(self._number_of)
        number = self._number_of.setdefault(key, next_number)
        self._documents.append(document)
        self._value_numbers.append(number)
        is_new = number == next_number
        return _ENTRY_BYTES + (_VALUE_BYTES + getsizeof(value) if is_new else 0)

    @property
    def documents(self) -> Numbers:
        return np.asarray(self._documents)

    def documents_where(self, wanted: Among | Compared | Like) -> Numbers:
        hits = np.zeros(len(self._number_of), np.bool_)
        if isinstance(wanted, Among):
            keys = ((value_kind(value), value) for value in wanted.values)
            hits[[self._number_of[key] for key in keys if key in self._number_of]] = True
        else:
            hits[:] = [value_matches(wanted, value) for _, value in self._number_of]
        documents: Numbers = self.documents[hits[np.asarray(self._value_numbers)]]
        return documents

    @property
    def different_values(self) -> int:
        return len(self._number_of)


class DocumentColumns:
    """The fields and metadata of documents. Selects the documents for which `matches` is true."""

    def __init__(self) -> None:
        self._page_keys = array("q")
        self.page_keys: set[int] = set()
        """The first page keys of the documents: another upload of the same file has another one."""
        self.size_bytes = 0
        """About the memory that the columns take."""
        self._columns: dict[Name, _Column] = {}

    def extend(self, documents: Iterable[Document]) -> None:
        for document in documents:
            names = (*_FIELDS, *(Name(key, is_metadata=True) for key in document.metadata))
            for name in names:
                self._add(name, values_of(document, name))
            self._add(_TAGS, document.tags)
            self._page_keys.append(document.first_page_key)
            self.page_keys.add(document.first_page_key)
            self.size_bytes += _DOCUMENT_BYTES

    def work(self, wanted: Filter) -> int:
        """The number of values that an evaluation looks at, besides arrays."""
        match wanted:
            case And(parts) | Or(parts):
                return sum(self.work(part) for part in parts)
            case Not(part):
                return self.work(part)
            case Compared() | Like():
                return self._column(wanted.name).different_values
            case _:
                return 1

    def selected(self, wanted: Filter) -> set[int]:
        """The first page keys of the documents for which the filter holds."""
        return set(np.asarray(self._page_keys)[self._mask(wanted)].tolist())

    def _add(self, name: Name, values: Iterable[Any]) -> None:
        for value in values:
            column = self._columns.setdefault(name, _Column())
            self.size_bytes += column.add(len(self._page_keys), value)

    def _mask(self, wanted: Filter) -> Mask:
        """(documents,) whether the filter holds."""
        mask: Mask
        match wanted:
            case And(parts):
                mask = np.logical_and.reduce([self._mask(part) for part in parts])
                return mask
            case Or(parts):
                mask = np.logical_or.reduce([self._mask(part) for part in parts])
                return mask
            case Not(part):
                return ~self._mask(part)
        mask = np.zeros(len(self._page_keys), np.bool_)
        mask[self._documents_of(wanted)] = True
        return mask

    def _documents_of(self, wanted: Among | Compared | Like | Has | Exists) -> Numbers:
        match wanted:
            case Has(tag):
                return self._column(_TAGS).documents_where(Among(_TAGS, (tag,)))
            case Exists(name):
                return self._column(name).documents
            case _:
                return self._column(wanted.name).documents_where(wanted)

    def _column(self, name: Name) -> _Column:
        return self._columns.get(name) or _Column()
