"""The guard of tests/unit/conftest.py: no unit test reaches another machine."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

ELSEWHERE = ["192.0.2.1", "2001:db8::1"]
"""Addresses for documentation: no machine has them."""


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_connection_to_another_machine_is_refused(host: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(f"connects to {host};")):
        socket.create_connection((host, 80), timeout=1)


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_asyncio_cannot_connect_either(host: str) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(AssertionError, match=re.escape(f"connects to {host};")):
            await asyncio.open_connection(host, 80)


def test_a_name_is_refused_before_it_is_looked_up() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match=r"connects to example\.invalid"):
        client.connect(("example.invalid", 80))


@pytest.mark.parametrize("fixture", ["stack", "settings"])
def test_servers_cannot_be_asked_for(request: pytest.FixtureRequest, fixture: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="move this test to tests/contract"):
        request.getfixturevalue(fixture)


def test_servers_of_the_test_itself_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=10).close()
