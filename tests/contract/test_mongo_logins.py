"""Logins and rights on the stand-in of MongoDB, started with users, roles and TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from cryptography import x509
from pymongo import MongoClient

from ingestion.adapters.mongo import database
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.errors import DependencyRefused
from ingestion.settings import MongoSettings
from tests.support.documents import S, document, in_state
from tests.support.tls_proxy import Certificates, make_certificates
from workers.stack import probes, server_specs
from workers.stack.datadir import DataDir
from workers.stack.supervise import ProcessSpec, Supervised

PASSWORD: Final = "open-sesame"
ROLE: Final = {"role": "readWrite", "db": "pagemill"}
"""As docs/security.md says."""


@dataclass(frozen=True)
class SecuredMongo:
    port: int
    certificates: Certificates

    def settings(self, login: str = f"pagemill:{PASSWORD}@", options: str = "", **changes: Any) -> MongoSettings:
        tls = f"directConnection=true&tls=true&tlsCAFile={self.certificates.cafile}"
        return MongoSettings(mongo_uri=f"mongodb://{login}localhost:{self.port}/?{tls}{options}", **changes)


@pytest.fixture(autouse=True)
def short_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_SELECTION_TIMEOUT_MS", 1500)


@contextmanager
def administrator(port: int) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        yield client


async def _run(spec: ProcessSpec, data_dir: DataDir) -> Supervised:
    server = Supervised(spec, data_dir.log_path("mongo"))
    await server.start()
    await server.wait_ready()
    return server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredMongo]:
    root = tmp_path_factory.mktemp("mongo")
    data_dir = DataDir(root)
    data_dir.make("mongo")
    port = data_dir.ports(("mongo",))["mongo"]
    certificates = make_certificates(root)
    plain = server_specs.mongo_server(root / "mongo", port)
    server = await _run(plain, data_dir)
    with administrator(port) as client:
        client.admin.command("createUser", "pagemill", pwd=PASSWORD, roles=[ROLE])
        client["$external"].command(
            "createUser", subject_of(certificates.clients["good"]), roles=[ROLE], mechanisms=["MONGODB-X509"]
        )
        client.admin.command("createUser", "reader", pwd=PASSWORD, roles=[{**ROLE, "role": "read"}])
    await server.stop()
    files = (certificates.servers["good"], certificates.servers["good"], certificates.cafile)
    options = zip(("--tls-cert-file", "--tls-key-file", "--tls-ca-file"), map(str, files), strict=True)
    argv = (*plain.argv, "--auth", *sum(options, ()))
    server = await _run(replace(plain, argv=argv, probe=partial(probes.listening, "127.0.0.1", port)), data_dir)
    try:
        yield SecuredMongo(port, certificates)
    finally:
        await server.stop()


def subject_of(certificate: Path) -> str:
    """The name of the certificate's user, as the stand-in writes it: it escapes `#`, which MongoDB does not."""
    *_, pem = certificate.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    return x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE" + pem).subject.rfc4514_string().replace("#", r"\#")


async def use_everything(settings: MongoSettings) -> None:
    async with MongoDocumentStore(settings) as store:
        await store.prepare()
        await store.ping()
        await store.insert(document("d2"))
        await in_state(store, S.READY)
        await store.collection_totals()
        assert await store.begin_delete("d1")
        await store.bind_collection("c", "an embedder", 8)


async def test_a_password_and_the_role_of_the_documentation_suffice(secured: SecuredMongo) -> None:
    await use_everything(secured.settings())


async def test_a_client_certificate_logs_in(secured: SecuredMongo) -> None:
    client = secured.certificates.clients["good"]
    options = f"&authMechanism=MONGODB-X509&tlsCertificateKeyFile={client}"
    async with MongoDocumentStore(secured.settings(login="", options=options)) as store:
        await store.ping()
        await store.insert(document("d3"))


@pytest.mark.parametrize(
    ("login", "options", "words"),
    [
        ("pagemill:let-me-in@", "", "check user, password and authSource"),
        ("stranger:let-me-in@", "", "check user, password and authSource"),
        ("", "", "lacks a right"),
        ("", "&authMechanism=MONGODB-X509", "check user, password|lacks a right|does not accept"),
    ],
)
async def test_a_login_that_is_refused_names_the_setting_each_time(
    secured: SecuredMongo, login: str, options: str, words: str
) -> None:
    async with MongoDocumentStore(secured.settings(login, options)) as store:
        for _ in range(2):
            with pytest.raises(DependencyRefused, match=f"mongodb refuses this process: .*({words})") as caught:
                await store.ping()
            assert "let-me-in" not in str(caught.value)


async def test_a_missing_right_names_the_setting(secured: SecuredMongo) -> None:
    async with MongoDocumentStore(secured.settings(mongo_database="other")) as store:
        with pytest.raises(DependencyRefused, match="the user of PAGEMILL_MONGO_URI lacks a right"):
            await store.ping()
    async with MongoDocumentStore(secured.settings(f"reader:{PASSWORD}@")) as store:
        await store.ping()
        with pytest.raises(DependencyRefused, match="the user of PAGEMILL_MONGO_URI lacks a right"):
            await store.reserve_page_keys(1)


def test_the_documentation_has_this_role() -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8")
    assert "`readWrite` on the database of `PAGEMILL_MONGO_DATABASE`" in page
