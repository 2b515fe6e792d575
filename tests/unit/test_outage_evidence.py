"""Whether an outage is the server's, or one document's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.attempt.outage_evidence import Suspicion


def test_a_document_that_meets_outages_while_others_get_on_is_suspect() -> None:
    suspicion = Suspicion()
    assert not suspicion.met_outage("milvus", "a"), "the first may be a real one"
    suspicion.worked("milvus", "b")
    assert suspicion.met_outage("milvus", "a")
    suspicion.worked("milvus", "b")
    assert suspicion.met_outage("milvus", "a"), "and each one after that"


def test_an_outage_that_lasts_is_nobodys_however_many_meet_it() -> None:
    suspicion = Suspicion()
    suspicion.worked("milvus", "a")
    suspicion.worked("milvus", "b")
    assert not any(suspicion.met_outage("milvus", document) for _ in range(100) for document in "abc")


def test_what_a_server_did_before_the_outage_says_nothing() -> None:
    suspicion = Suspicion()
    suspicion.met_outage("s3", "a")
    suspicion.worked("s3", "b")
    assert suspicion.met_outage("s3", "a")
    assert not suspicion.met_outage("s3", "a")


def test_work_for_the_document_itself_and_at_other_servers_says_nothing() -> None:
    suspicion = Suspicion()
    suspicion.met_outage("s3", "a")
    suspicion.worked("s3", "a")
    suspicion.worked("milvus", "b")
    assert not suspicion.met_outage("s3", "a")


def test_work_for_another_is_not_forgotten_over_work_for_the_document_itself() -> None:
    suspicion = Suspicion()
    suspicion.met_outage("s3", "a")
    suspicion.worked("s3", "b")
    suspicion.worked("s3", "a")
    suspicion.worked("s3", "a")
    assert suspicion.met_outage("s3", "a")


def test_a_proof_counts_as_work_for_others() -> None:
    suspicion = Suspicion()
    suspicion.met_outage("embedder", "a")
    suspicion.worked("embedder")
    assert suspicion.met_outage("embedder", "a")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=40))
def test_it_agrees_with_the_whole_history(events: list[tuple[bool, str]]) -> None:
    suspicion = Suspicion()
    history: list[tuple[bool, str]] = []
    for is_outage, document in events:
        if is_outage:
            own = [index for index, event in enumerate(history) if event == (True, document)]
            since = history[own[-1] + 1 :] if own else []
            assert suspicion.met_outage("s3", document) == any(not down and of != document for down, of in since)
        else:
            suspicion.worked("s3", document)
        history.append((is_outage, document))


def test_what_is_remembered_is_bounded() -> None:
    suspicion = Suspicion()
    for number in range(20_000):
        suspicion.met_outage("s3", str(number))
    assert len(suspicion._outages) == 10_000
