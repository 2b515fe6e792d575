"""The decision after a failed attempt, and the run of failures that stops a worker."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingestion
import workers
from ingestion.errors import (
    ChildStalled,
    CorruptPdf,
    DependencyUnavailable,
    EmbedderMismatch,
    Fault,
    IngestError,
    PermanentError,
    RendererMissing,
    RetryableError,
    WorkerFault,
)
from workers.attempt.retry_policy import FailureRun, GiveUp, Retry, decide

DELAYS_S = (10, 60, 600)


def of(attempt: int, error: IngestError | None = None) -> Retry | GiveUp:
    return decide(error or WorkerFault("a bug"), attempt, delays_s=DELAYS_S, max_attempts=5)


def test_the_waits_grow_the_last_one_holds_and_the_fifth_failure_is_the_end() -> None:
    assert [of(attempt) for attempt in range(1, 6)] == [Retry(10), Retry(60), Retry(600), Retry(600), GiveUp()]


@pytest.mark.parametrize("error", [CorruptPdf("x"), EmbedderMismatch("x")])
def test_a_permanent_error_is_given_up_at_once(error: PermanentError) -> None:
    assert of(1, error) == GiveUp()


@pytest.mark.parametrize("error", [RendererMissing("x"), DependencyUnavailable("milvus", "x"), ChildStalled("x")])
def test_an_error_that_an_operator_can_repair_is_retried(error: IngestError) -> None:
    assert of(1, error) == Retry(10)


@given(st.integers(1, 50), st.lists(st.integers(1, 3600), min_size=1), st.integers(1, 20))
def test_every_attempt_ends_in_a_known_delay_or_the_end(attempt: int, delays_s: list[int], most: int) -> None:
    decision = decide(WorkerFault("x"), attempt, delays_s=delays_s, max_attempts=most)
    assert isinstance(decision, GiveUp) == (attempt >= most)
    if isinstance(decision, Retry):
        assert decision.delay_s in delays_s


class Run:
    """A run of failures with a limit of 3, and the causes that it has reported."""

    def __init__(self, limit: int = 3) -> None:
        self.causes: list[str] = []
        self.run = FailureRun(limit, self.causes.append)

    def fail(self, *documents: str, error: IngestError | None = None) -> None:
        """Each document is named "collection/id"."""
        for document in documents:
            self.run.failed(*document.split("/"), error or WorkerFault("no such table"))


def test_different_documents_that_fail_in_a_row_reach_the_limit_once() -> None:
    run = Run()
    run.fail("x/a", "y/b")
    assert run.causes == []
    run.fail("x/c", "y/d", "y/e")
    assert run.causes == ["3 documents in a row have failed, the last with internal: no such table"]


def test_one_document_that_fails_again_and_again_is_only_one() -> None:
    run = Run()
    run.fail("x/a", "x/a", "x/a", "x/a", "y/b")
    assert run.causes == []


def test_a_document_that_gets_ready_ends_the_run() -> None:
    run = Run()
    run.fail("x/a", "y/b")
    run.run.succeeded()
    run.fail("x/c", "y/d")
    assert run.causes == []


def test_ten_failures_in_one_collection_stop_no_worker_until_another_collection_fails() -> None:
    run = Run(limit=10)
    run.fail(*(f"x/{number}" for number in range(10)))
    assert run.causes == [], "it may be that collection"
    run.fail("y/a")
    assert len(run.causes) == 1


def test_a_worker_that_fails_at_everything_halts_where_there_is_one_collection_only() -> None:
    run = Run(limit=10)
    run.fail(*(f"x/{number}" for number in range(29)))
    assert run.causes == []
    run.fail("x/last")
    assert len(run.causes) == 1


def test_a_collection_of_another_embedder_counts_once_and_many_of_them_show_a_wrong_worker() -> None:
    run = Run()
    mismatch = EmbedderMismatch("another model")
    run.fail(*(f"x/{number}" for number in range(100)), error=mismatch)
    run.fail("y/a", error=mismatch)
    assert run.causes == []
    run.fail("z/a", error=mismatch)
    assert len(run.causes) == 1


def test_failures_that_do_not_count_do_not_hide_those_that_do() -> None:
    run = Run()
    run.fail("x/a", "y/b")
    run.fail(*(f"z/{number}" for number in range(100)), error=CorruptPdf("x"))
    assert run.causes == []
    run.fail("x/c")
    assert len(run.causes) == 1


for _package in (ingestion, workers):
    for _module in walk_packages(_package.__path__, f"{_package.__name__}."):
        if not _module.name.startswith(("workers.embedding", "workers.bench")):  # they need libraries of extras
            import_module(_module.name)


def kinds(root: type[IngestError]) -> list[type[IngestError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("kind", sorted(set(kinds(IngestError)), key=lambda kind: kind.__name__))
def test_every_error_says_where_its_fault_lies(kind: type[IngestError]) -> None:
    if kind in (IngestError, RetryableError, PermanentError):
        assert kind.fault is None, "a base of several faults cannot say"
    else:
        assert isinstance(kind.fault, Fault), f"{kind.__name__}: give it, or its branch, a fault"


@pytest.mark.parametrize("kind", [kind for kind in kinds(IngestError) if kind.fault])
def test_only_faults_of_workers_and_of_many_collections_halt_a_worker(kind: type[IngestError]) -> None:
    run = Run()
    error = kind.__new__(kind)
    Exception.__init__(error, "cause")
    run.fail("x/a", "y/b", "z/c", error=error)
    assert bool(run.causes) == (kind.fault in (Fault.WORKER, Fault.COLLECTION))
