"""Refusals at the start of a process, and settings of servers that cannot be used."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ingestion import access
from ingestion.access import check_access
from ingestion.adapters.embedding.requests import EmbeddingRequests
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.redis.progress import open_client
from ingestion.adapters.s3_access import credentials_of, encryption_of
from ingestion.api.health import Readiness
from ingestion.errors import DependencyRefused, DependencyUnavailable, InvalidSetting
from ingestion.settings import EmbedderSettings, RedisSettings, S3Settings

KEYS = {"s3_access_key": "key", "s3_secret_key": "sesame"}


class Server:
    def __init__(self, error: Exception | None = None, *, is_silent: bool = False) -> None:
        self.error, self.is_silent = error, is_silent

    async def ping(self) -> None:
        if self.is_silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


def services(**servers: Server) -> Any:
    names = ("queue", "documents", "blobs", "vectors", "progress")
    return SimpleNamespace(**{name: servers.get(name, Server()) for name in names})


async def test_a_server_that_refuses_ends_the_start() -> None:
    refusal = DependencyRefused("kafka", "check the password")
    with pytest.raises(DependencyRefused, match="kafka refuses this process: check the password"):
        await check_access(services(queue=Server(refusal), blobs=Server(DependencyUnavailable("s3", "down"))))


async def test_servers_that_are_down_or_silent_do_not_end_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_ANSWER_S", 0.01)
    await check_access(services(queue=Server(DependencyUnavailable("kafka", "down")), blobs=Server(is_silent=True)))


async def test_readiness_names_the_cause_of_a_refusal_and_forgets_it() -> None:
    queue = Server(DependencyRefused("kafka", "check the password"))
    readiness = Readiness(services(queue=queue, blobs=Server(DependencyUnavailable("s3", "an address"))))
    found = await readiness.check()
    assert found["kafka"]["cause"] == "kafka refuses this process: check the password"
    assert "cause" not in found["s3"]
    queue.error = None
    assert (await readiness.check())["kafka"] == {"up": True}


@pytest.mark.parametrize(
    "url", ["redis+sentinel://host:26379/mymaster", "redis+cluster://host:6379", "user:sesame@host"]
)
def test_redis_other_than_a_single_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="PAGEMILL_REDIS_URL") as caught:
        open_client(RedisSettings(redis_url=url), 1.0)
    assert "sesame" not in str(caught.value)


def test_half_an_s3_key_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="PAGEMILL_S3_SECRET_KEY"):
        credentials_of(S3Settings(s3_access_key="key"))


def test_a_session_token_goes_with_the_key() -> None:
    provider = credentials_of(S3Settings(**KEYS, s3_session_token="for an hour"))
    assert provider is not None
    assert provider.retrieve().session_token == "for an hour"


def test_a_role_is_asked_of_the_environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "role")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    provider = credentials_of(S3Settings(s3_credentials="iam"))
    assert provider is not None
    assert provider.retrieve().access_key == "role"


def test_encryption_is_asked_for_by_header() -> None:
    assert encryption_of(S3Settings()) is None
    found = encryption_of(S3Settings(s3_encryption="AES256"))
    assert found is not None
    assert found.headers() == {"X-Amz-Server-Side-Encryption": "AES256"}
    with pytest.raises(InvalidSetting, match="PAGEMILL_S3_KMS_KEY_ID"):
        encryption_of(S3Settings(s3_encryption="aws:kms", s3_secure=True))
    kms = encryption_of(S3Settings(s3_encryption="aws:kms", s3_secure=True, s3_kms_key_id="a-key"))
    assert kms is not None
    assert kms.headers()["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] == "a-key"


@pytest.mark.parametrize(
    ("style", "begin"), [("path", "http://s3.example:9000/bucket/"), ("virtual", "http://bucket.s3.example:9000/")]
)
async def test_the_bucket_is_in_the_path_or_in_the_host_name(style: str, begin: str) -> None:
    settings = S3Settings(
        **KEYS, s3_endpoint="s3.example:9000", s3_bucket="bucket", s3_address_style=style, s3_prefix="team/"
    )
    async with MinioBlobStore(settings) as store:
        assert (await store.presign("a/key", 60)).startswith(f"{begin}team/a/key?")


async def test_the_embedding_service_gets_the_key() -> None:
    requests = EmbeddingRequests(EmbedderSettings(embedder_key="sesame"))
    assert requests._client.headers["Authorization"] == "Bearer sesame"
    await requests.close()
