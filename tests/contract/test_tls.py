"""MongoDB, Redis, S3 and Milvus behind TLS, with certificates that are good and with ones that are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.adapters.minio import MinioBlobStore
from ingestion.adapters.mongo import database
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.errors import DependencyRefused
from ingestion.settings import Settings
from tests.support.tls_proxy import Certificates, make_certificates, tls_proxy, tls_server_for_known_clients


@pytest.fixture(autouse=True)
def short_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver tries to connect for so long before it gives the cause."""
    monkeypatch.setattr(database, "_SELECTION_TIMEOUT_MS", 700)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def address(settings: Settings, server: str) -> str:
    urls = {
        "mongodb": settings.mongo.mongo_uri,
        "redis": settings.redis.redis_url,
        "s3": settings.s3.s3_endpoint,
        "milvus": settings.milvus.milvus_uri,
    }
    return urls[server].partition("://")[2].partition("/")[0].rpartition("@")[2] or urls[server]


def behind_tls(settings: Settings, server: str, port: int, cafile: Path, client: Path | None) -> Any:
    """The adapter of the server, through TLS. `client`: the certificate that it shows."""
    at = f"localhost:{port}"
    for_mongo = f"&tlsCertificateKeyFile={client}" if client else ""
    for_redis = f"&ssl_certfile={client}&ssl_keyfile={client}" if client else ""
    adapters: dict[str, Callable[[], Any]] = {
        "mongodb": lambda: MongoDocumentStore(
            settings.mongo.model_copy(
                update={"mongo_uri": f"mongodb://{at}/?directConnection=true&tls=true&tlsCAFile={cafile}{for_mongo}"}
            )
        ),
        "redis": lambda: RedisProgress(
            settings.redis.model_copy(update={"redis_url": f"rediss://{at}/0?ssl_ca_certs={cafile}{for_redis}"})
        ),
        "s3": lambda: MinioBlobStore(
            settings.s3.model_copy(update={"s3_endpoint": at, "s3_secure": True, "s3_cafile": cafile})
        ),
        "milvus": lambda: MilvusVectorStore(
            settings.milvus.model_copy(
                update={"milvus_uri": f"https://{at}", "milvus_cafile": cafile, "milvus_certfile": client}
            )
        ),
    }
    return adapters[server]()


@asynccontextmanager
async def connected(
    settings: Settings,
    server: str,
    certificate: Path,
    cafile: Path,
    *,
    client: Path | None = None,
    clients: Path | None = None,
) -> AsyncIterator[Any]:
    alpn = ("h2",) if server == "milvus" else ()
    with tls_proxy(address(settings, server), certificate, alpn=alpn, clients=clients) as port:
        async with behind_tls(settings, server, port, cafile, client) as adapter:
            yield adapter


@pytest.mark.parametrize("server", ["mongodb", "redis", "s3", "milvus"])
async def test_a_server_is_reached_through_tls(settings: Settings, certificates: Certificates, server: str) -> None:
    async with connected(settings, server, certificates.servers["good"], certificates.cafile) as adapter:
        if server == "s3":
            await adapter.prepare()
        await adapter.ping()


@pytest.mark.parametrize("server", ["mongodb", "redis", "milvus"])
async def test_a_certificate_of_the_client_is_shown(
    settings: Settings, certificates: Certificates, server: str
) -> None:
    good, cafile = certificates.servers["good"], certificates.cafile
    own = certificates.clients["good"]
    async with connected(settings, server, good, cafile, client=own, clients=cafile) as adapter:
        await adapter.ping()


@pytest.mark.parametrize("server", ["mongodb", "redis", "milvus"])
@pytest.mark.parametrize("client", [None, "stranger"])
async def test_a_server_that_asks_for_another_certificate_of_the_client_is_named(
    settings: Settings, certificates: Certificates, server: str, client: str | None
) -> None:
    good, cafile = certificates.servers["good"], certificates.cafile
    own = certificates.clients[client] if client else None
    setting = {"mongodb": "tlsCertificateKeyFile", "redis": "ssl_certfile", "milvus": "PAGEMILL_MILVUS_CERTFILE"}
    with tls_server_for_known_clients(good, cafile) as port:
        async with behind_tls(settings, server, port, cafile, own) as adapter:
            with pytest.raises(DependencyRefused, match=f"the certificate of this process.* set {setting[server]}"):
                await adapter.ping()


@pytest.mark.parametrize("server", ["mongodb", "redis", "s3", "milvus"])
@pytest.mark.parametrize(
    ("certificate", "is_trusted", "words"),
    [
        ("expired", True, "has expired"),
        ("otherhost", True, "another host|doesn't match|Hostname mismatch"),
        ("good", False, "not signed by a trusted|unable to get local issuer|self.signed"),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_named(
    settings: Settings, certificates: Certificates, server: str, certificate: str, is_trusted: bool, words: str
) -> None:
    cafile = certificates.cafile if is_trusted else certificates.stranger
    async with connected(settings, server, certificates.servers[certificate], cafile) as adapter:
        with pytest.raises(DependencyRefused, match=rf"{server} refuses this process: .*({words})"):
            await adapter.ping()
