"""An Apache Kafka with logins, certificates and ACLs, and a token endpoint for it.

One broker has a listener for each thing that can be wrong. Certificates are made for the session.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from unittest import mock

import trustme
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ingestion.settings import KafkaSettings
from workers.stack import apache_kafka
from workers.stack.datadir import DataDir
from workers.stack.supervise import StackError, Supervised

_BESIDE: Final = Path(__file__).parents[2]
USERS: Final = {
    name: f"{name}-sesame"
    for name in ("pagemill", "ensure", "migrate", "api", "worker", "janitor", "dlq", "unlisted", "bare")
}
LISTENERS: Final = ("CLEAR", "LOGIN", "EXPIRED", "OTHERHOST", "MTLS", "BARELOGIN")
_PROTOCOLS: Final = {"CLEAR": "PLAINTEXT", "MTLS": "SSL", "BARELOGIN": "SASL_PLAINTEXT"}
_FORMAT_AND_RUN: Final = """
set -e
"$@" kafka.tools.StorageTool format --cluster-id "$CLUSTER_ID" --config server.properties $SCRAM
exec "$@" kafka.Kafka server.properties
"""
CLIENT: Final = {"common_name": "pagemill"}
TOPIC, GROUP, CLUSTER = 2, 3, 4
"""Kinds of resources in an ACL."""
OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Alter": 7, "Describe": 8, "DescribeConfigs": 10}
_ANY_NAME, _LITERAL, _ALLOW = "*", 3, 3


def kafka_home() -> Path | None:
    """The release that KAFKA_HOME names, or the one beside the checkout. None if there is none."""
    if named := os.environ.get(apache_kafka.HOME_VARIABLE):
        return Path(named)
    candidates = (parent / "shared/apache-kafka" for parent in _BESIDE.parents)
    return next((home for home in candidates if (home / "libs").is_dir()), None)


@dataclass(frozen=True)
class SecuredKafka:
    """The addresses of the listeners, and the files of a client."""

    ports: dict[str, int]
    folder: Path
    token_url: str

    def settings(self, listener: str = "LOGIN", user: str = "pagemill", **changes: Any) -> KafkaSettings:
        """The settings of `user` on that listener."""
        protocol = _PROTOCOLS.get(listener, "SASL_SSL")
        values: dict[str, Any] = {
            "kafka_bootstrap": f"localhost:{self.ports[listener]}",
            "kafka_security_protocol": protocol,
        }
        if protocol.startswith("SASL"):
            values |= {
                "kafka_sasl_mechanism": "SCRAM-SHA-256",
                "kafka_sasl_username": user,
                "kafka_sasl_password": USERS[user],
            }
        if protocol.endswith("SSL"):
            values["kafka_ssl_cafile"] = self.folder / "ca.pem"
        if listener == "MTLS":
            values["kafka_ssl_certfile"] = self.folder / "client.pem"
        return KafkaSettings(**values | changes)

    def oauth(self, user: str, **changes: Any) -> KafkaSettings:
        """The settings of a login with a token of the endpoint."""
        login = {
            "kafka_sasl_mechanism": "OAUTHBEARER",
            "kafka_oauth_token_url": self.token_url,
            "kafka_oauth_client_id": user,
            "kafka_oauth_client_secret": USERS[user],
        }
        return self.settings(**login | changes)

    async def allow(self, user: str, kind: int, name: str, *operations: str) -> None:
        """Give the user these rights."""
        client = AIOKafkaClient(bootstrap_servers=f"localhost:{self.ports['CLEAR']}")
        await client.bootstrap()
        try:
            for operation in operations:
                request = CreateAclsRequest(
                    kind, name, _LITERAL, f"User:{user}", _ANY_NAME, OPERATIONS[operation], _ALLOW
                )
                answer = await client.send(client.get_random_node(), request)
                for code, message in answer.creation_responses:
                    assert not code, (for_code(code), message)
        finally:
            await client.close()


@asynccontextmanager
async def running_secured_kafka(root: Path, home: Path) -> AsyncIterator[SecuredKafka]:
    """Raises StackError if Java is missing."""
    data_dir = DataDir(root)
    data_dir.make("kafka")
    folder = root / "kafka"
    ports = data_dir.ports(("kafka", *apache_kafka.PORTS, *LISTENERS))
    with mock.patch.dict(os.environ, {apache_kafka.HOME_VARIABLE: str(home)}):
        plain = apache_kafka.spec(folder, {**ports, "kafka": ports["CLEAR"]})
    _make_certificates(folder)
    with (folder / "server.properties").open("a") as file:
        file.write(_properties(folder, ports))
    scram = " ".join(
        f"--add-scram {mechanism}=[name={user},password={password}]"
        for user, password in USERS.items()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    )
    shell, option, _, *rest = plain.argv
    spec = replace(plain, argv=(shell, option, _FORMAT_AND_RUN, *rest), env={**plain.env, "SCRAM": scram})
    broker = Supervised(spec, data_dir.log_path("kafka"))
    with token_endpoint() as token_url:
        await broker.start()
        try:
            await broker.wait_ready()
            yield SecuredKafka(ports, folder, token_url)
        except StackError as error:
            raise AssertionError(data_dir.log_path("kafka").read_text()[-4000:]) from error
        finally:
            await broker.stop()


def _properties(folder: Path, ports: dict[str, int]) -> str:
    addresses = [f"{name}://127.0.0.1:{ports[name]}" for name in LISTENERS]
    protocols = [f"{name}:{_PROTOCOLS.get(name, 'SASL_SSL')}" for name in LISTENERS]
    plain_users = " ".join(f'user_{user}="{password}"' for user, password in USERS.items())
    module = "org.apache.kafka.common.security"
    lines = [
        f"listeners={','.join(addresses)},CONTROLLER://127.0.0.1:{ports['kafka-controller']}",
        f"advertised.listeners={','.join(address.replace('127.0.0.1', 'localhost') for address in addresses)}",
        f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,{','.join(protocols)}",
        "inter.broker.listener.name=CLEAR",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # All clients of the listener without a login are this user.
        "super.users=User:ANONYMOUS",
        "sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        "listener.name.mtls.ssl.client.auth=required",
        "ssl.principal.mapping.rules=RULE:^CN=([^,]*),.*$/$1/,DEFAULT",
        "listener.name.barelogin.sasl.enabled.mechanisms=SCRAM-SHA-512",
        "connection.failed.authentication.delay.ms=0",
    ]
    for listener in ("login", "expired", "otherhost", "barelogin"):
        jaas = {
            "scram-sha-256": f"{module}.scram.ScramLoginModule required",
            "scram-sha-512": f"{module}.scram.ScramLoginModule required",
            "plain": f"{module}.plain.PlainLoginModule required {plain_users}",
            "oauthbearer": f'{module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x"',
        }
        lines += [f"listener.name.{listener}.{name}.sasl.jaas.config={line};" for name, line in jaas.items()]
    for listener in ("login", "expired", "otherhost", "mtls"):
        prefix = f"listener.name.{listener}.ssl"
        certificate = folder / f"{'login' if listener == 'mtls' else listener}.pem"
        lines += [
            f"{prefix}.keystore.type=PEM",
            f"{prefix}.keystore.location={certificate}",
            f"{prefix}.truststore.type=PEM",
            f"{prefix}.truststore.location={folder / 'ca.pem'}",
        ]
    return "\n".join(lines) + "\n"


def _make_certificates(folder: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    names = ("localhost", "127.0.0.1")
    past = datetime.now(UTC) - timedelta(days=1)
    _write(folder / "login.pem", authority.issue_cert(*names))
    _write(folder / "expired.pem", authority.issue_cert(*names, not_before=past - timedelta(days=1), not_after=past))
    _write(folder / "otherhost.pem", authority.issue_cert("broker.example"))
    _write(folder / "client.pem", authority.issue_cert(*names, **CLIENT))
    _write(
        folder / "untrusted-client.pem",
        stranger.issue_cert(*names, **CLIENT),
    )


def _write(path: Path, certificate: trustme.LeafCert) -> None:
    """Key and chain in one file. Kafka takes keys in PKCS #8 only."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


class _TokenEndpoint(BaseHTTPRequestHandler):
    """Gives out tokens without a signature, which a broker takes if it has no other validator."""

    def do_POST(self) -> None:
        user, _, secret = (
            base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        )
        if USERS.get(user) != secret:
            self._answer(401, {"error": "invalid_client", "error_description": f"{secret} is wrong"})
            return
        now = time.time()
        claims = {"sub": user, "iat": now, "exp": now + 3600}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "none"}, claims)
        ]
        self._answer(200, {"access_token": f"{parts[0]}.{parts[1]}.", "expires_in": 3600})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def token_endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TokenEndpoint)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def server_context(certificate: Path) -> ssl.SSLContext:
    """The context of a TLS server with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
