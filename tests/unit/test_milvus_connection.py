"""The options of connections to Milvus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from ingestion.adapters.milvus.connection import connect
from ingestion.settings import MilvusSettings


class Opened(Exception):
    def __init__(self, options: Sequence[tuple[str, Any]]) -> None:
        self.options = dict(options)


def test_an_idle_connection_sends_no_pings_for_which_a_server_drops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(address: str, options: Sequence[tuple[str, Any]]) -> None:
        raise Opened(options)

    monkeypatch.setattr(grpc, "insecure_channel", opened)
    with pytest.raises(Opened) as found:
        connect(MilvusSettings(milvus_uri="http://127.0.0.1:1"))
    assert not found.value.options["grpc.keepalive_permit_without_calls"]
    assert found.value.options["grpc.keepalive_time_ms"] > 300_000
