"""Listeners of tests beside those of the product, on each client of MongoDB that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from pymongo.monitoring import CommandListener

from ingestion.adapters.mongo import database


@contextmanager
def listening(listener: CommandListener) -> Iterator[None]:
    """Clients that are made within the block have `listener` too."""
    client_of: Callable[..., Any] = database.client_of

    def heard(uri: str, *, event_listeners: Sequence[CommandListener] = (), **options: Any) -> Any:
        return client_of(uri, event_listeners=[*event_listeners, listener], **options)

    with mock.patch.object(database, "client_of", heard):
        yield
