"""Failed heartbeats, and the error that the holder of the lease gets, in virtual time."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from ingestion.errors import DependencyUnavailable, LeaseLost, Stalled, WorkerFault
from ingestion.model import Document, DocumentState
from ingestion.ports import Ledger
from tests.support.virtual_time import in_virtual_time
from tests.support.waiting import wait_for
from workers.attempt.lease import Lease

LEASE_S = 60.0
DEADLINE_S = 600.0


class Store:
    """Extends leases, except that the first times it does what `errors` say; an Event is waited for."""

    def __init__(self, *errors: BaseException | asyncio.Event, always: BaseException | None = None) -> None:
        self.errors = list(errors)
        self.always = always
        self.beats = 0

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        self.beats += 1
        error = self.errors.pop(0) if self.errors else self.always
        if isinstance(error, asyncio.Event):
            await error.wait()
        elif error is not None:
            raise error


def lease_of(store: Store) -> Lease:
    document = Document("d", "c", "f.pdf", "o", "s", 1, 1, 1, state=DocumentState.PROCESSING, fence=7)
    return Lease(cast(Ledger, store), document, LEASE_S, clock=asyncio.get_running_loop().time)


@pytest.mark.parametrize(
    "error",
    [
        WorkerFault("cut off"),
        DependencyUnavailable("mongodb", "no answer"),
        KeyError("nobody foresaw this"),
        TypeError("nor this"),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
@in_virtual_time
async def test_a_heartbeat_that_fails_once_is_sent_again_while_the_lease_lasts(error: BaseException) -> None:
    store = Store(error, error)
    with capture_logs():
        async with asyncio.timeout(DEADLINE_S), lease_of(store) as lease:
            await wait_for(lambda: store.beats >= 4, DEADLINE_S)
            lease.check()


@in_virtual_time
async def test_an_unforeseen_error_is_logged_with_its_traceback() -> None:
    store = Store(KeyError("x"))
    with capture_logs() as logs:
        async with lease_of(store):
            await wait_for(lambda: store.beats >= 2, DEADLINE_S)
    [line] = logs
    assert (line["event"], line["exc_info"]) == ("heartbeat failed", True)


@pytest.mark.parametrize("error", [WorkerFault("cut off"), KeyError("x")], ids=lambda error: type(error).__name__)
@in_virtual_time
async def test_heartbeats_that_go_on_failing_end_the_work_with_the_lease_and_say_why(error: BaseException) -> None:
    store = Store(always=error)
    with capture_logs(), pytest.raises(LeaseLost, match=f"could not be extended: {type(error).__name__}"):
        async with asyncio.timeout(DEADLINE_S), lease_of(store):
            await asyncio.Event().wait()
    assert store.beats > 3, "it was tried for as long as the lease lasted"


@in_virtual_time
async def test_a_database_that_never_answers_ends_the_work_with_the_lease() -> None:
    with pytest.raises(DependencyUnavailable, match="no answer to a heartbeat"):
        async with asyncio.timeout(DEADLINE_S), lease_of(Store(asyncio.Event(), asyncio.Event())):
            await asyncio.Event().wait()


@in_virtual_time
async def test_a_process_that_stood_still_during_a_heartbeat_does_not_blame_the_database() -> None:
    stood_still_s = 0.0

    class Suspended(Store):
        async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
            nonlocal stood_still_s
            stood_still_s += 2 * LEASE_S
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    lease = lease_of(Suspended())
    lease._clock = lambda: loop.time() + stood_still_s
    with capture_logs() as logs, pytest.raises(LeaseLost, match="could not be extended"):
        async with asyncio.timeout(DEADLINE_S), lease:
            await asyncio.Event().wait()
    assert logs[0]["cause"] == "stood still for 120.0 s"


@in_virtual_time
async def test_a_fence_that_has_moved_ends_the_work_at_once() -> None:
    store = Store(LeaseLost("the fence has moved"))
    with pytest.raises(LeaseLost, match="the fence has moved"):
        async with asyncio.timeout(DEADLINE_S), lease_of(store):
            await asyncio.Event().wait()
    assert store.beats == 1


@in_virtual_time
async def test_an_abort_ends_the_work_and_the_heartbeats() -> None:
    store = Store()
    with pytest.raises(Stalled):
        async with asyncio.timeout(DEADLINE_S), lease_of(store) as lease:
            await wait_for(lambda: store.beats >= 1, DEADLINE_S)
            lease.abort(Stalled("no progress", stage="embed"))
            await asyncio.Event().wait()
    beats = store.beats
    await asyncio.sleep(LEASE_S)
    assert store.beats == beats


@in_virtual_time
async def test_an_abort_after_the_end_does_not_touch_the_outcome() -> None:
    async with lease_of(Store()) as lease:
        await lease.end()
        lease.abort(Stalled("no progress", stage="embed"))
        await asyncio.sleep(0.01)
