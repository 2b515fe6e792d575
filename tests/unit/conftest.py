"""The guard that keeps servers and the network out of the unit tests, and the API that commands are tested with."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from ingestion.api import events, problems
from ingestion.client import client, following
from tests.support.fake_api import API_KEY, FakeApi, FakeApiServer, fake_api_server

_PAUSE_S: Final = 0.01
"""Between two looks at a document, in place of the product's half a second and second."""
_OWN_CONNECT = socket.socket.connect


def _connect_on_this_machine(own: socket.socket, address: Any) -> None:
    if own.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
        raise AssertionError(f"a unit test connects to {address[0]}; tests that need the network go to tests/contract")
    _OWN_CONNECT(own, address)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_on_this_machine)


@pytest.fixture(scope="session")
def server_env() -> dict[str, str]:
    """Takes the place of the fixture that starts servers, which `settings` and `stack` build on."""
    pytest.fail("unit tests run without servers: move this test to tests/contract")


@pytest.fixture(scope="session")
def stack() -> dict[str, Any]:
    """Takes the place of the fixture that starts the whole stack."""
    pytest.fail("unit tests run without servers: move this test to tests/contract")


@pytest.fixture(scope="module")
def api_server() -> Iterator[FakeApiServer]:
    with fake_api_server() as running:
        yield running


@pytest.fixture
def api(api_server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """A running API that the commands find through the settings, and an empty working directory."""
    for name in [name for name in os.environ if name.startswith("PAGEMILL_")]:
        monkeypatch.delenv(name)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(problems, "RETRY_AFTER_S", 1)
    monkeypatch.setattr(client, "_LIST_LIMIT", 2)  # so that listings have several pages
    monkeypatch.setattr(events, "POLL_INTERVAL_S", _PAUSE_S)
    monkeypatch.setattr(following, "RECONNECT_S", _PAUSE_S)
    running = api_server.fresh()
    monkeypatch.setenv("PAGEMILL_API_URL", running.url)
    monkeypatch.setenv("PAGEMILL_API_KEY", API_KEY)
    with capture_logs():  # The command under test writes to the same standard output.
        yield running
