"""The indexes of the collections, besides that of `_id`. A test holds each request of the adapters against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Keys = Sequence[tuple[str, int]]

INDEXES: Final[Mapping[str, Sequence[Keys]]] = {
    "documents": (
        (("collection", 1), ("_id", 1)),
        (("collection", 1), ("first_page_key", 1)),
        # A tenant's documents of all collections. Records of the default tenant have no such field.
        (("tenant", 1), ("_id", 1)),
        (("state", 1), ("updated_at", 1)),
        (("state", 1), ("created_at", 1)),
        (("collection", 1), ("updated_at", 1)),
        # A search for documents without sign codes reads no others.
        (("state", 1), ("codes_format", 1), ("_id", 1)),
        # Metadata are a list of {k, v}: one index serves the filters by all keys.
        (("collection", 1), ("metadata.k", 1), ("metadata.v", 1)),
        (("collection", 1), ("tags", 1)),
        (("collection", 1), ("key", 1), ("revision", 1)),
        # Uploads ask for many contents at once. The content comes first: the local stack's server uses an index for a
        # list of values of its first field only, and would read the whole collection.
        (("sha256", 1), ("collection", 1)),
        (("replaced_at", 1),),
        # Workers choose the next document of a flow: those that may be claimed now, in the order of their uploads.
        (("flow", 1), ("state", 1), ("lease_until", 1), ("first_page_key", 1)),
        (("delivery", 1),),
        # Records with events that are to be sent. The others have no such time.
        (("events_at", 1),),
        # A search for documents without terms reads no others.
        (("state", 1), ("terms_format", 1), ("_id", 1)),
    ),
    "pages": ((("document_id", 1),),),
    "archived": ((("collection", 1),),),
    "events": ((("events_at", 1),),),
    "deliveries": (
        (("webhook", 1), ("state", 1), ("due_at", 1)),
        (("webhook", 1), ("state", 1), ("_id", 1)),
        (("state", 1), ("settled_at", 1)),
    ),
}
