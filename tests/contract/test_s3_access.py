"""A bucket with a prefix, encryption headers and refused keys on a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ingestion.adapters.minio import MinioBlobStore
from ingestion.errors import DependencyRefused, NotFound
from ingestion.settings import S3Settings, Settings


def changed(settings: Settings, **changes: Any) -> S3Settings:
    return settings.s3.model_copy(update=changes)


async def test_a_prefix_keeps_two_installations_in_one_bucket_apart(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    async with (
        MinioBlobStore(changed(settings, s3_prefix="one/a/")) as one,
        MinioBlobStore(changed(settings, s3_prefix="two/")) as two,
        MinioBlobStore(settings.s3) as whole,
    ):
        await one.prepare()
        await one.prove()
        await one.put("d/page", b"a page", "text/plain")
        await one.put_file("d/source", tmp_path / "file", "text/plain")
        await two.put("d/page", b"another", "text/plain")
        assert await one.get("d/page") == b"a page"
        assert await two.get("d/page") == b"another"
        assert sorted(await one.list_keys("d/")) == ["d/page", "d/source"]
        assert [entry.key async for entry in two.entries("")] == ["d/page"]
        assert sorted(await whole.list_keys("")) == ["one/a/d/page", "one/a/d/source", "two/d/page"]
        async with httpx.AsyncClient() as client:
            assert (await client.get(await one.presign("d/source", 60))).content == b"from a file"
        assert await one.delete_prefix("d/") == 2
        assert await two.get("d/page") == b"another"
        with pytest.raises(NotFound):
            await one.get("d/page")


async def test_objects_are_stored_with_an_encryption_header(settings: Settings) -> None:
    async with MinioBlobStore(changed(settings, s3_encryption="AES256")) as store:
        await store.prepare()
        await store.put("key", b"bytes", "text/plain")
        assert await store.get("key") == b"bytes"


@pytest.mark.parametrize(
    "changes", [{"s3_secret_key": SecretStr("let-me-in")}, {"s3_access_key": "stranger"}], ids=["secret", "key"]
)
async def test_a_wrong_key_names_the_setting(settings: Settings, changes: dict[str, Any]) -> None:
    async with MinioBlobStore(settings.s3) as store:
        await store.prepare()
    async with MinioBlobStore(changed(settings, **changes)) as store:
        with pytest.raises(DependencyRefused, match="s3 refuses this process: check PAGEMILL_S3_ACCESS_KEY") as caught:
            await store.ping()
    assert "let-me-in" not in str(caught.value)
