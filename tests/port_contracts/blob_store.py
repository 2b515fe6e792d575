"""BlobStore."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from ingestion.errors import NotFound
from ingestion.ports import BlobStore

KIND: Final = "application/octet-stream"


class BlobStoreContract:
    """Needs a fixture `store`."""

    async def test_get_returns_the_bytes_that_were_put(self, store: BlobStore) -> None:
        await store.put("a/b", b"\x00\xffpage", KIND)
        assert await store.get("a/b") == b"\x00\xffpage"

    async def test_an_object_may_be_empty(self, store: BlobStore) -> None:
        await store.put("empty", b"", KIND)
        assert await store.get("empty") == b""

    async def test_putting_again_replaces(self, store: BlobStore) -> None:
        await store.put("k", b"long before", KIND)
        await store.put("k", b"after", KIND)
        assert await store.get("k") == b"after"

    async def test_a_file_of_several_parts_comes_back_whole(self, store: BlobStore, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(bytes(range(256)) * 50_000)  # 12.8 MB, three parts
        await store.put_file("file", source, KIND)
        await store.fetch_file("file", target)
        assert target.read_bytes() == source.read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]

    async def test_many_are_fetched_in_the_order_asked_for(self, store: BlobStore) -> None:
        names = [f"many/{number}" for number in range(30)]
        await asyncio.gather(*(store.put(name, name.encode(), KIND) for name in names))
        wanted = [*reversed(names), names[3]]
        assert await store.get_many(wanted) == [name.encode() for name in wanted]
        assert await store.get_many([]) == []

    async def test_a_missing_object_is_not_found(self, store: BlobStore, tmp_path: Path) -> None:
        await store.put("there", b"x", KIND)
        with pytest.raises(NotFound):
            await store.get("missing")
        with pytest.raises(NotFound):
            await store.get_many(["there", "missing", "there"])
        with pytest.raises(NotFound):
            await store.fetch_file("missing", tmp_path / "target")
        assert list(tmp_path.iterdir()) == []

    async def test_listing_keeps_to_the_prefix(self, store: BlobStore) -> None:
        for key in ("d/1/a", "d/1/b/c", "d/10/a", "e"):
            await store.put(key, b"", KIND)
        assert sorted(await store.list_keys("d/1/")) == ["d/1/a", "d/1/b/c"]
        assert await store.list_keys("nothing/") == []

    async def test_deleting_a_prefix_says_how_many_there_were(self, store: BlobStore) -> None:
        for key in ("d/1/a", "d/1/b", "d/10/a"):
            await store.put(key, b"", KIND)
        assert await store.delete_prefix("d/1/") == 2
        assert await store.list_keys("d/") == ["d/10/a"]
        assert await store.delete_prefix("d/1/") == 0

    async def test_more_objects_than_one_request_deletes_are_deleted(self, store: BlobStore) -> None:
        await asyncio.gather(*(store.put(f"d/{number:06d}", b"", KIND) for number in range(1_020)))
        assert await store.delete_prefix("d/") == 1_020
        assert await store.list_keys("d/") == []

    async def test_a_proof_leaves_nothing_behind(self, store: BlobStore) -> None:
        before = await store.list_keys("")
        await store.prove()
        assert await store.list_keys("") == before
