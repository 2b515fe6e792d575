"""The guard that keeps servers and the network out of the unit tests."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest

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
