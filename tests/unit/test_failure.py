"""What becomes of a failed attempt, and when a run of failures says more about us than about documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import (
    ChildStalled,
    CorruptPdf,
    DependencyUnavailable,
    EmbedderMismatch,
    IngestError,
    PermanentError,
    RendererMissing,
    WorkerFault,
)
from workers.failure import FailureRun, GiveUp, Retry, decide

DELAYS_S = (10, 60, 600)


def of(attempt: int, error: IngestError | None = None) -> Retry | GiveUp:
    return decide(error or WorkerFault("a bug"), attempt, delays_s=DELAYS_S, max_attempts=5)


def test_the_waits_grow_the_last_one_holds_and_the_fifth_failure_is_the_end() -> None:
    assert [of(attempt) for attempt in range(1, 6)] == [Retry(10), Retry(60), Retry(600), Retry(600), GiveUp()]


@pytest.mark.parametrize("error", [CorruptPdf("x"), EmbedderMismatch("x")])
def test_what_no_retry_can_mend_is_given_up_at_once(error: PermanentError) -> None:
    assert of(1, error) == GiveUp()


@pytest.mark.parametrize("error", [RendererMissing("x"), DependencyUnavailable("milvus", "x"), ChildStalled("x")])
def test_what_a_person_may_mend_is_tried_again(error: IngestError) -> None:
    assert of(1, error) == Retry(10)


@given(st.integers(1, 50), st.lists(st.integers(1, 3600), min_size=1), st.integers(1, 20))
def test_every_attempt_ends_in_a_known_delay_or_the_end(attempt: int, delays_s: list[int], most: int) -> None:
    decision = decide(WorkerFault("x"), attempt, delays_s=delays_s, max_attempts=most)
    assert isinstance(decision, GiveUp) == (attempt >= most)
    if isinstance(decision, Retry):
        assert decision.delay_s in delays_s


class Run:
    def __init__(self, limit: int = 3) -> None:
        self.causes: list[str] = []
        self.run = FailureRun(limit, self.causes.append)

    def fail(self, *documents: str, error: IngestError | None = None) -> None:
        for document in documents:
            self.run.failed(document, error or WorkerFault("no such table"))


def test_different_documents_that_fail_in_a_row_reach_the_limit_once() -> None:
    run = Run()
    run.fail("a", "b")
    assert run.causes == []
    run.fail("c", "d")
    assert run.causes == ["3 documents in a row have failed, the last with internal: no such table"]


def test_one_document_that_fails_again_and_again_is_only_one() -> None:
    run = Run()
    run.fail("a", "a", "a", "a", "b")
    assert run.causes == []


def test_a_document_that_gets_ready_ends_the_run() -> None:
    run = Run()
    run.fail("a", "b")
    run.run.succeeded()
    run.fail("c", "d")
    assert run.causes == []


def test_files_that_are_at_fault_themselves_do_not_count_and_a_wrong_embedder_does() -> None:
    run = Run()
    run.fail("a", "b", "c", "d", error=CorruptPdf("x"))
    assert run.causes == []
    run.fail("a", "b", "c", error=EmbedderMismatch("another model"))
    assert len(run.causes) == 1
