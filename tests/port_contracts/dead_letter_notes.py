"""What every implementation of the port DeadLetterNotes keeps."""

from __future__ import annotations

from ingestion.bootstrap import DocumentStore
from ingestion.model import LetterMark


class DeadLetterNotesContract:
    async def test_a_letter_gets_one_mark(self, store: DocumentStore) -> None:
        assert await store.letter_marks(["l1", "l2"]) == {}
        assert await store.mark_letter(LetterMark("l1", "replayed", "ann", "$fixed"))
        assert not await store.mark_letter(LetterMark("l1", "discarded", "bob", ""))
        [(id_, mark)] = (await store.letter_marks(["l1", "l2"])).items()
        assert (id_, mark.action, mark.by, mark.why) == ("l1", "replayed", "ann", "$fixed")
        assert mark.at is not None
