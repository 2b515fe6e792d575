"""The classes that put the ports of the document store together."""

from __future__ import annotations

from collections import Counter

import pytest

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from tests.memory import MemoryDocumentStore


@pytest.mark.parametrize("store", [MongoDocumentStore, MemoryDocumentStore])
def test_no_port_hides_a_method_of_another(store: type) -> None:
    defined = Counter(
        name
        for base in store.__mro__
        for name, member in vars(base).items()
        if callable(member) and not name.startswith("__") and base is not object
    )
    assert [name for name, count in defined.items() if count > 1] == []
