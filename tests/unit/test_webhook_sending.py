"""Webhooks as an endpoint gets them: signatures, time limits, and the addresses that are never reached."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpcore
import pytest

from ingestion.adapters.webhook_sender import CheckedNetwork, HttpWebhookSender
from ingestion.errors import BadRequest
from ingestion.model import EventType, Webhook, WebhookDelivery
from ingestion.settings import WebhookSettings
from ingestion.webhooks.addresses import check_url, is_public
from ingestion.webhooks.signature import new_secret, signature_headers
from tests.support.hook_receiver import hook_receiver

DELIVERY = WebhookDelivery("w1.e1", "w1", "e1", EventType.READY, '{"type":"document.ready"}', attempts=1)
PRIVATE_TOO = WebhookSettings(webhook_allow_private=True, webhook_timeout_s=0.5)


def webhook(url: str) -> Webhook:
    return Webhook("w1", "acme", url, new_secret())


async def test_a_request_is_signed_over_its_id_its_time_and_its_body() -> None:
    async with hook_receiver() as receiver, HttpWebhookSender(PRIVATE_TOO) as sender:
        hook = webhook(receiver.url)
        assert await sender.send(hook, DELIVERY) == ""
    [(headers, body)] = receiver.requests
    assert (headers["webhook-id"], body) == ("e1", DELIVERY.body.encode())
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"e1.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(hook.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the reference libraries of Standard Webhooks."""
    headers = signature_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_the_documented_verification_accepts_a_request_and_nothing_else() -> None:
    page = (Path(__file__).parents[2] / "docs/webhooks.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    verified = names["verified"]
    secret, body = new_secret(), b'{"type":"ping"}'
    headers = signature_headers(secret, "e1", int(time.time()), body)
    assert verified(secret, headers, body) == {"type": "ping"}
    late = signature_headers(secret, "e1", int(time.time()) - 3600, body)
    for wrong in ((new_secret(), headers, body), (secret, headers, body + b" "), (secret, late, body)):
        with pytest.raises(ValueError):
            verified(*wrong)


@pytest.mark.parametrize(
    ("answer", "error"), [(500, "answered 500"), (302, "answered 302"), ("silent", "no answer within 0.5 s")]
)
async def test_an_endpoint_that_does_not_accept_is_a_failure(answer: int | str, error: str) -> None:
    async with hook_receiver() as receiver, HttpWebhookSender(PRIVATE_TOO) as sender:
        receiver.answers = [answer]
        receiver.headers = {"location": receiver.url}
        assert error in await sender.send(webhook(receiver.url), DELIVERY)
    assert len(receiver.requests) == 1, "no redirect is followed"


async def test_an_endpoint_that_is_not_there_or_talks_something_else_is_a_failure() -> None:
    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HttpWebhookSender(PRIVATE_TOO) as sender, server:
        error = await sender.send(webhook(f"http://127.0.0.1:{port}/"), DELIVERY)
        assert error.startswith(("RemoteProtocolError", "ReadError"))
    async with HttpWebhookSender(PRIVATE_TOO) as sender:
        assert "ConnectError" in await sender.send(webhook(f"http://127.0.0.1:{port}/"), DELIVERY)
        assert await sender.send(webhook("https://no.such.host.invalid/"), DELIVERY)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
async def test_a_private_address_is_refused(host: str) -> None:
    async with HttpWebhookSender(WebhookSettings(webhook_timeout_s=2)) as sender:
        assert "not a public address" in await sender.send(webhook(f"https://{host}/"), DELIVERY)


class Connections(httpcore.AsyncNetworkBackend):
    """Notes the addresses that are connected to, and connects to none."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def connect_tcp(self, host: str, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self.hosts.append(host)
        raise httpcore.ConnectError("not in this test")


async def test_the_address_that_was_checked_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name leads to a public address first, and to a private one as soon as it is asked for again."""
    answers = [["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]]

    async def resolved(*arguments: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    connections = Connections()
    network = CheckedNetwork(allow_private=False, inner=connections)
    async with HttpWebhookSender(WebhookSettings(), network) as sender:
        assert "ConnectError" in await sender.send(webhook("https://rebinding.example/"), DELIVERY)
        assert connections.hosts == ["93.184.215.14"]
        assert len(answers) == 2, "the name is resolved once"
        for _ in range(2):
            assert "not a public address" in await sender.send(webhook("https://rebinding.example/"), DELIVERY)
    assert connections.hosts == ["93.184.215.14"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.2.1", "198.18.0.1"),
        *("::", "::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
        *("64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1", "", "example.com"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://a.example/", "ftp://a.example/", "https:///x", "https://", "a.example", "", "https://a.example:x/"),
        *("https://user:pass@a.example/", "https://a.example/#x", "https://a.example/ x", "https://[::1/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://localhost/", "https://169.254.169.254/latest"),
        *("https://ä.example/", "https://a.example/" + "x" * 2000),
    ],
)
def test_an_address_that_no_delivery_can_reach_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        check_url(url, allow_private=False)


def test_http_and_private_addresses_are_allowed_by_setting() -> None:
    assert check_url("https://a.example:8443/x?y=1", allow_private=False)
    assert check_url("http://127.0.0.1:8000/", allow_private=True)


async def test_the_certificate_of_an_endpoint_is_checked(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain, known = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "ca.pem"
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    authority.cert_pem.write_to_path(known)
    trusting = WebhookSettings(webhook_allow_private=True, webhook_cafile=known)
    async with hook_receiver(ssl_keyfile=str(key), ssl_certfile=str(chain)) as receiver:
        async with HttpWebhookSender(WebhookSettings(webhook_allow_private=True)) as sender:
            assert "certificate" in (await sender.send(webhook(receiver.url), DELIVERY)).lower()
        async with HttpWebhookSender(trusting) as sender:
            assert await sender.send(webhook(receiver.url), DELIVERY) == ""
    assert len(receiver.requests) == 1
    assert json.loads(receiver.requests[0][1]) == {"type": "document.ready"}
