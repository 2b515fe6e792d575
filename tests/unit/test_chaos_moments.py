"""The moments of the chaos runs at MongoDB: each one is hit by the command of the step that it names."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast

import bson
import pytest

from ingestion.adapters.mongo.database import Database
from ingestion.adapters.mongo.document_mapping import page_record_of
from ingestion.adapters.mongo.ledger import MongoLedger
from tests.chaos.killer import MOMENTS
from tests.support.documents import FAILURE, document, page


class _Answered(Exception):
    """The step reads after its write: what it would do with the answer is not of interest."""


class Recorder:
    """A database that keeps the bytes of its commands."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def __getattr__(self, name: str) -> Recorder:  # every collection
        return self

    async def update_one(self, condition: dict[str, Any], change: Any) -> Any:
        self.commands.append(bson.encode({"q": condition, "u": change}))
        return type("Result", (), {"matched_count": 1})

    async def find_one(self, *query: Any) -> None:
        raise _Answered


async def commands() -> dict[str, list[bytes]]:
    """What the steps of an attempt send, by step."""
    sent = {}

    async def record(step: str, work: Any) -> None:
        recorder = Recorder()
        call: Awaitable[object] = work(MongoLedger(cast(Database, recorder)))
        with suppress(_Answered):
            await call
        sent[step] = recorder.commands

    await record("claim", lambda ledger: ledger.claim("d1", "w", 1000, token="t"))
    await record("heartbeat", lambda ledger: ledger.extend("d1", 1, 1000))
    await record("plan", lambda ledger: ledger.plan("d1", 1, dpi=150, stage="processing"))
    await record("checkpoint", lambda ledger: ledger.checkpoint("d1", 1, 3))
    await record("finish", lambda ledger: ledger.finish(document()))
    await record("postponement", lambda ledger: ledger.postpone("d1", 1, FAILURE, 1000))
    await record("failure", lambda ledger: ledger.fail("d1", 1, FAILURE))
    await record("release", lambda ledger: ledger.release("d1", 1, outage=True))
    sent["records"] = [bson.encode(page_record_of(page(1)))]
    return sent


@pytest.mark.parametrize("moment", [name for name, (server, _) in MOMENTS.items() if server == "mongo"])
async def test_a_moment_is_hit_by_one_command_of_its_step_and_by_no_other_step(moment: str) -> None:
    pattern = MOMENTS[moment][1]
    hits = {step: sum(pattern in command for command in sent) for step, sent in (await commands()).items()}
    assert {step: count for step, count in hits.items() if count} == {moment: 1}
