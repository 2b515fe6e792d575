"""The object store's port, on a real S3 server."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestion.adapters.minio import MinioBlobStore
from ingestion.errors import DependencyUnavailable
from ingestion.settings import S3Settings, Settings
from tests.port_contracts.blob_store import KIND, BlobStoreContract


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[MinioBlobStore]:
    async with MinioBlobStore(settings.s3) as store:
        await store.prepare()
        yield store


class TestMinioBlobStore(BlobStoreContract): ...


async def test_a_presigned_address_needs_no_credentials(store: MinioBlobStore) -> None:
    await store.put("images/1 ü.webp", b"picture", "image/webp")
    url = await store.presign("images/1 ü.webp", 60)
    with await asyncio.to_thread(urllib.request.urlopen, url, timeout=10) as response:
        assert (response.read(), response.headers["Content-Type"]) == (b"picture", "image/webp")


async def test_presigning_needs_no_server_and_uses_the_public_address(unused_tcp_port: int) -> None:
    settings = S3Settings(
        s3_endpoint=f"127.0.0.1:{unused_tcp_port}",
        s3_public_endpoint="files.example.com",
        s3_access_key="key",
        s3_secret_key="secret",
    )
    async with MinioBlobStore(settings) as store:
        url = await store.presign("a/b", 60)
    assert url.startswith("http://files.example.com/pagemill/a/b?")
    assert "X-Amz-Expires=60" in url


async def test_preparing_may_be_repeated_and_raced(store: MinioBlobStore) -> None:
    await asyncio.gather(*(store.prepare() for _ in range(3)))
    await store.ping()


async def test_a_missing_bucket_is_unavailable(settings: Settings) -> None:
    async with MinioBlobStore(settings.s3) as store:
        with pytest.raises(DependencyUnavailable):
            await store.ping()


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    settings = S3Settings(s3_endpoint=f"127.0.0.1:{unused_tcp_port}", s3_access_key="k", s3_secret_key="s")
    async with MinioBlobStore(settings) as store:
        for call in (store.ping(), store.get("k"), store.put("k", b"", KIND), store.delete_prefix("d/")):
            with pytest.raises(DependencyUnavailable) as caught:
                await call
            assert caught.value.dependency == "s3"


async def test_a_body_that_ends_early_is_an_error_and_never_short_data(
    store: MinioBlobStore, settings: Settings, tmp_path: Path
) -> None:
    await store.put("big", bytes(200_000), KIND)
    async with (
        Scissors(settings.s3.s3_endpoint, after_bytes=100_000) as address,
        MinioBlobStore(settings.s3.model_copy(update={"s3_endpoint": address})) as cut,
    ):
        with pytest.raises(DependencyUnavailable):
            await cut.get("big")
        with pytest.raises(DependencyUnavailable):
            await cut.fetch_file("big", tmp_path / "target")
    assert not (tmp_path / "target").exists()


class Scissors:
    """A TCP proxy that hangs up once the server has sent `after_bytes` on a connection."""

    def __init__(self, endpoint: str, *, after_bytes: int) -> None:
        host, _, port = endpoint.rpartition(":")
        self._target = (host, int(port))
        self._after_bytes = after_bytes

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(*self._target)
        sending = asyncio.create_task(self._copy(reader, requests))
        left = self._after_bytes
        while left and (data := await answers.read(left)):
            writer.write(data)
            left -= len(data)
        sending.cancel()
        for side in (writer, requests):
            side.close()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
