"""Whether an outage is the server's, or one document's.

A server that is down is down for all documents. A document that makes a server fail, or that a server alone does not
take, meets an outage at each attempt, while the same server works for others in between. Only such outages count
against the document: an outage that lasts, also of a server that answers pings and refuses work, costs no document
anything, however long it lasts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

EMBEDDER: Final = "embedder"
PROOF: Final = ""
"""In place of a document's id: the server has done a piece of work that was asked of it as a proof."""

_DOCUMENTS_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Works:
    """The latest works of a server for two different documents, in an order that is the same for all servers."""

    latest: tuple[int, str] = (0, PROOF)
    latest_of_another: int = 0

    def add(self, number: int, document_id: str) -> None:
        if document_id != self.latest[1]:
            self.latest_of_another = self.latest[0]
        self.latest = (number, document_id)

    def latest_for_others_than(self, document_id: str) -> int:
        number, worked_for = self.latest
        return self.latest_of_another if worked_for == document_id else number


@dataclass(slots=True)
class OutageEvidence:
    """What one worker has seen its servers do. Nothing is measured in time: what counts is what came in between."""

    _number: int = 0
    _works: dict[str, _Works] = field(default_factory=dict)
    _outages: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    """The number of each document's latest outage, by document id and server."""

    def add_success(self, dependency: str, document_id: str = PROOF) -> None:
        """The server has done its work for the document, or for a proof."""
        self._number += 1
        self._works.setdefault(dependency, _Works()).add(self._number, document_id)

    def is_suspect(self, dependency: str, document_id: str) -> bool:
        """Whether the server has worked for others since this document met its latest outage there.

        The first outage of a document makes no suspect, nor do several that share one cause.
        """
        works, before = self._works.get(dependency), self._outages.get((document_id, dependency))
        return before is not None and works is not None and works.latest_for_others_than(document_id) > before

    def add_outage(self, dependency: str, document_id: str) -> bool:
        """Take note of one more outage; whether the document was suspect before it."""
        was_suspect = self.is_suspect(dependency, document_id)
        self._number += 1
        self._outages[document_id, dependency] = self._number
        self._outages.move_to_end((document_id, dependency))
        if len(self._outages) > _DOCUMENTS_REMEMBERED:
            self._outages.popitem(last=False)
        return was_suspect
