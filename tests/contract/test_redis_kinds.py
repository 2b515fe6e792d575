"""Redis servers that are not a single server: a Sentinel, and a node of a Cluster."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from ingestion.adapters.redis.progress import RedisProgress
from ingestion.errors import DependencyRefused, InvalidSetting
from ingestion.settings import RedisSettings
from tests.support.ports import free_port
from workers.stack import binaries, probes
from workers.stack.supervise import ProcessSpec, Supervised

OPTIONS: Final = {"Cluster": ("--cluster-enabled", "yes"), "Sentinel": ("--sentinel",)}


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server of the parameter's kind."""
    # A node of a cluster listens on a second port, which is 10,000 higher.
    port = next(port for port in iter(free_port, 0) if port <= 55_535)
    config = tmp_path / "server.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    argv = (str(binaries.find("redis")), str(config), *OPTIONS[request.param])
    server = Supervised(
        ProcessSpec("redis", argv, "", partial(probes.listening, "127.0.0.1", port)), tmp_path / "redis.log"
    )
    await server.start()
    await server.wait_ready()
    yield f"redis://127.0.0.1:{port}/0"
    await server.stop()


@pytest.mark.parametrize(("url", "kind"), [(kind, kind) for kind in OPTIONS], indirect=["url"])
async def test_a_sentinel_and_a_node_of_a_cluster_are_refused_by_name(url: str, kind: str) -> None:
    async with RedisProgress(RedisSettings(redis_url=url)) as progress, asyncio.timeout(30):
        with pytest.raises(DependencyRefused, match=f"PAGEMILL_REDIS_URL leads to a {kind}, which is not supported"):
            await progress.ping()


@pytest.mark.parametrize("scheme", ["redis+sentinel", "sentinel", "redis-cluster"])
async def test_an_address_of_another_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(f"PAGEMILL_REDIS_URL: {scheme}:// is not supported")):
        await RedisProgress(RedisSettings(redis_url=f"{scheme}://127.0.0.1:26379/mymaster")).__aenter__()
