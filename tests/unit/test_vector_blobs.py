"""The requests for reading vectors of pages, under new and old names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from ingestion.errors import NotFound
from ingestion.ports import BlobStore
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs


class Objects:
    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.requests: list[list[str]] = []

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        self.requests.append(list(keys))
        if lacking := set(keys) - self.keys:
            raise NotFound(lacking.pop())
        return [key.encode() for key in keys]


def refs(document_id: str, *numbers: int) -> list[VectorBlobRef]:
    return [VectorBlobRef(document_id, number, 1) for number in numbers]


def blobs_over(objects: Any) -> VectorBlobs:
    return VectorBlobs(cast(BlobStore, objects))


async def test_new_names_cost_one_request_each_and_nothing_else() -> None:
    wanted = refs("d", 1, 2)
    objects = Objects(*(ref.key for ref in wanted))
    assert await blobs_over(objects).read(wanted[::-1]) == [ref.key.encode() for ref in wanted[::-1]]
    assert objects.requests == [[ref.key for ref in wanted[::-1]]]
    assert await blobs_over(objects).read([]) == []


async def test_old_names_cost_extra_requests_only_at_the_first_read_of_a_document() -> None:
    wanted, new = refs("d", 1, 2), refs("e", 1)
    objects = Objects(*(ref.old_key for ref in wanted), new[0].key)
    blobs = blobs_over(objects)
    expected = [b"documents/d/pages/000001.bf16", b"documents/d/pages/000002.bf16", b"documents/e/pages/000001.vec"]
    assert await blobs.read([*wanted, *new]) == expected
    assert len(objects.requests) == 3
    assert await blobs.read([*wanted, *new]) == expected
    assert sorted(objects.requests[3:]) == [[ref.old_key for ref in wanted], [new[0].key]]


async def test_a_document_may_have_both_and_the_new_one_counts() -> None:
    first, second, third = refs("d", 1, 2, 3)
    objects = Objects(first.old_key, second.key, third.key, third.old_key)
    expected = [first.old_key.encode(), second.key.encode(), third.key.encode()]
    blobs = blobs_over(objects)
    for _ in range(2):
        assert await blobs.read([first, second, third]) == expected


async def test_a_blob_under_neither_name_is_not_found() -> None:
    with pytest.raises(NotFound):
        await blobs_over(Objects(refs("d", 1)[0].key)).read(refs("d", 1, 2))
