"""Changes of metadata and tags, and the metadata that are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ingestion.document_patch import patch_document
from ingestion.errors import BadRequest, Conflict, NotFound
from ingestion.model import Document, check_metadata, check_tags
from tests.memory import MemoryDocumentStore
from tests.support.documents import S, document, in_state


async def test_a_patch_sets_and_removes_keys_and_replaces_tags() -> None:
    store = MemoryDocumentStore()
    await store.insert(replace(document(), metadata={"a": 1, "b": 2}, tags=("t",)))
    changed = await patch_document(store, "d1", {"a": None, "c": "x"}, None)
    assert (changed.metadata, changed.tags) == ({"b": 2, "c": "x"}, ("t",))
    assert (await patch_document(store, "d1", None, [])).tags == ()


async def test_a_patch_keeps_what_another_request_has_just_changed() -> None:
    class Busy(MemoryDocumentStore):
        changes = 0

        async def change_metadata(self, known: Document, metadata: Any, tags: Sequence[str]) -> bool:
            self.changes += 1
            if self.changes == 1:
                assert await super().change_metadata(known, {"other": 1}, tags)
            return await super().change_metadata(known, metadata, tags)

    store = Busy()
    await store.insert(document())
    assert (await patch_document(store, "d1", {"a": 1}, None)).metadata == {"a": 1, "other": 1}


async def test_a_document_that_is_gone_or_going_cannot_be_changed() -> None:
    store = MemoryDocumentStore()
    with pytest.raises(NotFound):
        await patch_document(store, "d1", {"a": 1}, None)
    await in_state(store, S.DELETING)
    with pytest.raises(Conflict):
        await patch_document(store, "d1", {"a": 1}, None)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ([], "a list; send a JSON object"),
        ("x", "a text"),
        ({"a b": 1}, "'a b' is not usable"),
        ({"": 1}, "not usable"),
        ({"a": {"b": 1}}, "'a' is an object"),
        ({"a": [1]}, "'a' is a list"),
        ({"a": 2**63}, "64 bits"),
        ({"a": float("nan")}, "finite"),
        ({"a": "x\0"}, "NUL"),
        ({"a": "\ud800"}, "metadata 'a'"),
        ({f"k{number}": 1 for number in range(65)}, "at most 64"),
        ({"a": "x" * 20_000}, "at most 16384"),
    ],
)
def test_metadata_that_are_not_accepted(given: object, advice: str) -> None:
    with pytest.raises(BadRequest, match=advice):
        check_metadata(given)


@pytest.mark.parametrize("given", ["draft", 5, [1], [""], ["x" * 101], ["a\n"], [f"{number}" for number in range(65)]])
def test_tags_that_are_not_accepted(given: object) -> None:
    with pytest.raises(BadRequest):
        check_tags(given)


def test_tags_come_once() -> None:
    assert check_tags(["b", "a", "b"]) == ("b", "a")
