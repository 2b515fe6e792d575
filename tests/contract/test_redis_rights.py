"""A user of Redis with exactly the commands and keys of docs/security.md."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from redis import Redis

from ingestion.adapters.redis.progress import TOTALS_KEY, RedisProgress, task_key
from ingestion.adapters.redis.query_cache import RedisQueryCache
from ingestion.errors import DependencyRefused
from ingestion.settings import RedisSettings, Settings
from tests.support.redis_rights import RIGHTS
from workers.embedding.serving.cache import open_cache

DOCS: Final = Path(__file__).parents[2] / "docs/security.md"


@pytest.fixture
def as_user(settings: Settings) -> Iterator[RedisSettings]:
    """Settings of a user with RIGHTS."""
    at = urlsplit(settings.redis.redis_url)
    name, password = f"user-{secrets.token_hex(4)}", secrets.token_hex(8)
    with Redis.from_url(settings.redis.redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", name, "on", f">{password}", *RIGHTS.split())
        yield RedisSettings(redis_url=f"redis://{name}:{password}@{at.netloc}{at.path}")
        admin.execute_command("ACL", "DELUSER", name)


def test_the_documentation_has_these_rights() -> None:
    assert RIGHTS in " ".join(DOCS.read_text("utf-8").split())


async def test_progress_needs_no_more(as_user: RedisSettings, settings: Settings) -> None:
    async with RedisProgress(as_user) as progress:
        await progress.ping()
        await progress.report("d", status="processing", message="a page", processed=1, total=2)
        assert (await progress.read("d"))["processed"] == "1"
        await progress.add(pages=1)
        with Redis.from_url(settings.redis.redis_url) as admin:
            assert admin.hget(TOTALS_KEY, "pages") == b"1"
            await progress.forget("d")
            assert not admin.exists(task_key("d"))


async def test_the_caches_need_no_more(as_user: RedisSettings) -> None:
    async with RedisQueryCache(as_user) as cache:
        await cache.put("query:a", b"hits", 60)
        assert await cache.get("query:a") == b"hits"
    async with open_cache(as_user, 60) as vectors:
        vectors.put("emb:a", b"vector")
    async with open_cache(as_user, 60) as vectors:
        assert await vectors.look_up(["emb:a"]) == [b"vector"]


async def test_a_wrong_password_names_the_setting(as_user: RedisSettings) -> None:
    url = urlsplit(as_user.redis_url)
    wrong = RedisSettings(redis_url=f"redis://{url.username}:let-me-in@{url.hostname}:{url.port}/0")
    async with RedisProgress(wrong) as progress:
        with pytest.raises(DependencyRefused, match="PAGEMILL_REDIS_URL") as caught:
            await progress.ping()
    assert "let-me-in" not in str(caught.value)
