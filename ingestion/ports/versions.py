"""What a search asks of a collection's record before it begins, and how a change of the collection is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ingestion.catalogue.generations import Binding


@dataclass(frozen=True, slots=True)
class Searchable:
    """A collection as one read of its record showed it.

    `version` is None while a document of the collection may become ready at any moment.
    """

    binding: Binding
    version: str | None


class CollectionVersions(Protocol):
    """The version of a collection: the one thing that says whether a search could find something else than before.

    `Ledger.finish` changes it twice: before the document becomes ready, and after. In between the collection has no
    version. If the process dies there, it has none until `Recovery.settle_changes` has seen that the document can no
    longer become ready under that fence. `begin_delete` changes it before the document is no longer ready. Whatever
    else changes what a search finds must change the version in the same compare-and-set. A version never comes again,
    not even after the collection was dropped and made anew.
    """

    async def searchable(self, collection: str) -> Searchable | None:
        """The collection as it is now, None before its first page. Raises CollectionArchived."""
