"""Distinguishes a server that is down from a document that makes a server fail.

A server that is down fails for all documents. A document that makes a server fail, or that a server refuses, meets an
outage at each attempt, while the server works for other documents in between. Only such outages count against the
document. An outage of the server costs no document an attempt, however long it lasts, also where the server answers
pings and refuses work.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingestion.errors import DependencyUnavailable, FailsAlone
from ingestion.model import OUTAGES_FORGIVEN, Document

EMBEDDER: Final = "embedder"
PROOF: Final = ""
"""In place of a document's id: the server did work that a breaker asked for as a proof."""

_DOCUMENTS_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Successes:
    """A server's latest success, and its latest for another document. One sequence numbers those of all servers."""

    number: int = 0
    document_id: str = PROOF
    number_for_another: int = 0

    def add(self, number: int, document_id: str) -> None:
        if document_id != self.document_id:
            self.number_for_another = self.number
        self.number, self.document_id = number, document_id

    def latest_for_others_than(self, document_id: str) -> int:
        return self.number_for_another if self.document_id == document_id else self.number


@dataclass(slots=True)
class OutageEvidence:
    """The outages and successes of one worker's servers. Their order counts, their times do not."""

    _number: int = 0
    _successes: dict[str, _Successes] = field(default_factory=dict)
    _outages: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    """The number of each document's latest outage, by document id and server."""

    def add_success(self, *dependencies: str, document_id: str = PROOF) -> None:
        """The servers have worked for the document, or for a proof."""
        for dependency in dependencies:
            self._number += 1
            self._successes.setdefault(dependency, _Successes()).add(self._number, document_id)

    def is_suspect(self, dependency: str, document_id: str) -> bool:
        """Whether the server has worked for others since its latest outage for this document.

        The first outage of a document makes it no suspect. Neither do several outages with one cause.
        """
        successes, before = self._successes.get(dependency), self._outages.get((document_id, dependency))
        if before is None or successes is None:
            return False
        return successes.latest_for_others_than(document_id) > before

    def require_guilty(self, document: Document, outage: DependencyUnavailable) -> FailsAlone:
        """The error of a document that makes a server fail. Raises `outage` while it may still be the server's own."""
        if document.outages < OUTAGES_FORGIVEN or not self.is_suspect(outage.dependency, document.id):
            raise outage
        self.add_outage(outage.dependency, document.id)
        return FailsAlone(
            f"{outage.dependency} failed for this document {document.outages + 1} times or more, and worked for "
            f"others in between: {outage.message}",
            stage=outage.stage,
        )

    def add_outage(self, dependency: str, document_id: str) -> bool:
        """Add an outage. Returns whether the document was suspect before it."""
        was_suspect = self.is_suspect(dependency, document_id)
        self._number += 1
        self._outages[document_id, dependency] = self._number
        self._outages.move_to_end((document_id, dependency))
        if len(self._outages) > _DOCUMENTS_REMEMBERED:
            self._outages.popitem(last=False)
        return was_suspect
