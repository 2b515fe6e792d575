"""A job that another worker may have taken already."""

from __future__ import annotations


class OfferRefused(Exception):
    """The document of an offered record is not to be processed by this worker now.

    `collection`: its documents are not for this worker at present. Empty where the cause is this document alone.
    """

    def __init__(self, collection: str = "") -> None:
        super().__init__(collection)
        self.collection = collection
