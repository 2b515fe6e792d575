"""What an S3 server is sent: headers, addresses and credentials, read by a server of the test."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from ingestion.adapters.minio import MinioBlobStore
from ingestion.errors import DependencyRefused, DependencyUnavailable, InvalidSetting
from ingestion.settings import S3Settings
from tests.support.secured_kafka import server_context
from tests.support.tls_proxy import Certificates, make_certificates


class FakeServer(ThreadingHTTPServer):
    """Accepts each object, and gives credentials at /role."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []
        self.role: dict[str, str] = {}
        self.roles_given = 0

    @property
    def address(self) -> str:
        return f"localhost:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_GET(self) -> None:
        if self.path == "/role" and self.server.role:
            self.server.roles_given += 1
            self._answer(200, json.dumps(self.server.role).encode())
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        if self.command == "PUT":
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(status)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    thread = Thread(target=fake.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield fake
    fake.shutdown()
    fake.server_close()
    thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def of(server: FakeServer, **changes: Any) -> S3Settings:
    keys = {"s3_access_key": "key", "s3_secret_key": SecretStr("secret")}
    return S3Settings(**{"s3_endpoint": server.address, **keys, **changes})


async def put(settings: S3Settings, file: Path | None = None) -> None:
    async with MinioBlobStore(settings) as store:
        if file is None:
            await store.put("d/page", b"bytes", "text/plain")
        else:
            await store.put_file("d/page", file, "text/plain")


async def test_encryption_by_the_server_is_asked_for_with_each_object(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    for file in (None, tmp_path / "file"):
        await put(of(server, s3_encryption="AES256"), file)
        assert server.headers.pop()["x-amz-server-side-encryption"] == "AES256"


async def test_no_certificates_are_loaded_without_tls(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ssl, "create_default_context")
    await put(of(server))


async def test_a_key_of_kms_is_named_with_each_object(server: FakeServer, certificates: Certificates) -> None:
    server.socket = server_context(certificates.servers["good"]).wrap_socket(server.socket, server_side=True)
    kms = {"s3_encryption": "aws:kms", "s3_kms_key_id": "a-key", "s3_secure": True}
    await put(of(server, **kms, s3_cafile=certificates.cafile))
    sent = server.headers.pop()
    assert sent["x-amz-server-side-encryption"] == "aws:kms"
    assert sent["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"


async def test_kms_without_tls_or_a_key_and_encryption_with_keys_of_ones_own_are_refused(server: FakeServer) -> None:
    with pytest.raises(InvalidSetting, match="needs PAGEMILL_S3_SECURE=true and PAGEMILL_S3_KMS_KEY_ID"):
        await put(of(server, s3_encryption="aws:kms"))
    with pytest.raises(ValidationError, match="'none', 'AES256' or 'aws:kms'"):
        of(server, s3_encryption="SSE-C")


async def test_a_session_token_is_sent_with_each_request(server: FakeServer) -> None:
    await put(of(server, s3_session_token=SecretStr("a-token")))
    assert server.headers.pop()["x-amz-security-token"] == "a-token"


@pytest.mark.parametrize(
    ("style", "endpoint", "host", "path"),
    [
        ("auto", "s3.eu-central-1.amazonaws.com", "bkt.s3.eu-central-1.amazonaws.com", "/p/key"),
        ("auto", "minio.example:9000", "minio.example:9000", "/bkt/p/key"),
        ("virtual", "s3.example", "bkt.s3.example", "/p/key"),
        ("path", "s3.example", "s3.example", "/bkt/p/key"),
    ],
)
async def test_the_bucket_is_named_where_the_style_says(style: str, endpoint: str, host: str, path: str) -> None:
    keys = {"s3_access_key": "key", "s3_secret_key": SecretStr("secret"), "s3_region": "eu-central-1"}
    where = {"s3_endpoint": endpoint, "s3_address_style": style, "s3_bucket": "bkt", "s3_prefix": "p/"}
    async with MinioBlobStore(S3Settings(**keys, **where)) as store:
        address = urlsplit(await store.presign("key", 60))
    assert (address.netloc, address.path) == (host, path)


@pytest.fixture
def role(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> S3Settings:
    """A process whose role's credentials come from /role."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{server.address}/role")
    return of(server, s3_credentials="iam", s3_access_key="", s3_secret_key=SecretStr(""))


def credentials(token: str, expires_in_s: float) -> dict[str, str]:
    until = datetime.now(UTC) + timedelta(seconds=expires_in_s)
    return {
        "AccessKeyId": "role-key",
        "SecretAccessKey": "role-secret",
        "Token": token,
        "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


async def test_credentials_of_a_role_are_used_and_renewed_once_they_expire(
    server: FakeServer, role: S3Settings
) -> None:
    server.role = credentials("first", 3600)
    async with MinioBlobStore(role) as store:
        for _ in range(2):
            await store.put("key", b"bytes", "text/plain")
            assert server.headers.pop()["x-amz-security-token"] == "first"
        assert server.roles_given == 1
    server.role = credentials("second", -1)
    async with MinioBlobStore(role) as store:
        for _ in range(2):
            await store.put("key", b"bytes", "text/plain")
        assert server.roles_given == 3
        assert "Credential=role-key/" in server.headers.pop()["authorization"]


async def test_a_process_without_a_role_is_told_so_at_once(server: FakeServer, role: S3Settings) -> None:
    async with MinioBlobStore(role) as store:
        with pytest.raises(DependencyRefused, match=r"PAGEMILL_S3_CREDENTIALS=iam finds no credentials .*404"):
            await store.ping()


async def test_a_service_of_roles_that_is_down_is_waited_for(
    server: FakeServer, role: S3Settings, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://localhost:{unused_tcp_port}/role")
    async with MinioBlobStore(role) as store:
        with pytest.raises(DependencyUnavailable):
            await store.ping()
