"""Attribution of an outage: to the server, or to one document."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.attempt.outage_evidence import OutageEvidence


def test_a_document_with_outages_is_suspect_while_others_progress() -> None:
    evidence = OutageEvidence()
    assert not evidence.add_outage("milvus", "a"), "the first may be a real one"
    evidence.add_success("milvus", document_id="b")
    assert evidence.add_outage("milvus", "a")
    evidence.add_success("milvus", document_id="b")
    assert evidence.add_outage("milvus", "a"), "and each one after that"


def test_a_lasting_outage_is_attributed_to_no_document() -> None:
    evidence = OutageEvidence()
    evidence.add_success("milvus", document_id="a")
    evidence.add_success("milvus", document_id="b")
    assert not any(evidence.add_outage("milvus", document) for _ in range(100) for document in "abc")


def test_successes_before_an_outage_are_no_evidence_for_the_next_one() -> None:
    evidence = OutageEvidence()
    evidence.add_outage("s3", "a")
    evidence.add_success("s3", document_id="b")
    assert evidence.add_outage("s3", "a")
    assert not evidence.add_outage("s3", "a")


def test_own_successes_and_successes_at_other_servers_are_no_evidence() -> None:
    evidence = OutageEvidence()
    evidence.add_outage("s3", "a")
    evidence.add_success("s3", document_id="a")
    evidence.add_success("milvus", document_id="b")
    assert not evidence.add_outage("s3", "a")


def test_success_of_another_document_still_counts_after_own_successes() -> None:
    evidence = OutageEvidence()
    evidence.add_outage("s3", "a")
    evidence.add_success("s3", document_id="b")
    evidence.add_success("s3", document_id="a")
    evidence.add_success("s3", document_id="a")
    assert evidence.add_outage("s3", "a")


def test_a_proof_counts_as_work_for_others() -> None:
    evidence = OutageEvidence()
    evidence.add_outage("embedder", "a")
    evidence.add_success("embedder")
    assert evidence.add_outage("embedder", "a")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=40))
def test_it_agrees_with_the_whole_history(events: list[tuple[bool, str]]) -> None:
    evidence = OutageEvidence()
    history: list[tuple[bool, str]] = []
    for is_outage, document in events:
        if is_outage:
            own = [index for index, event in enumerate(history) if event == (True, document)]
            since = history[own[-1] + 1 :] if own else []
            assert evidence.add_outage("s3", document) == any(not down and of != document for down, of in since)
        else:
            evidence.add_success("s3", document_id=document)
        history.append((is_outage, document))


def test_the_evidence_holds_a_bounded_number_of_documents() -> None:
    evidence = OutageEvidence()
    for number in range(20_000):
        evidence.add_outage("s3", str(number))
    assert len(evidence._outages) == 10_000
