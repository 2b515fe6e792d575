"""Marks of dead letters in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ingestion.model import LetterMark
from tests.memory.state import MemoryPort


class MemoryDeadLetterNotes(MemoryPort):
    async def mark_letter(self, mark: LetterMark) -> bool:
        if mark.letter_id in self.state.marks:
            return False
        self.state.marks[mark.letter_id] = replace(mark, at=self.clock.now)
        return True

    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        return {id_: self.state.marks[id_] for id_ in letter_ids if id_ in self.state.marks}
