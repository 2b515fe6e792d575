"""The requests that a MongoDB client sends, and which index each of them can use.

MongoDB's own plans are not asked for: the stand-in has none. The rule is that of its documentation: fields that are
compared for equality, then those of the sort, then a range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Any, Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from ingestion.adapters.mongo.indexes import INDEXES, Keys

_RANGES: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
_EXCLUSIONS: Final = frozenset({"$ne", "$nin"})
_OF_IDS: Final[Keys] = (("_id", 1),)


class Comparison(StrEnum):
    EQUAL = "equal"
    RANGE = "range"
    EXCLUDED = "excluded"
    OTHER = "other"
    """It is checked in each record that is read."""


@dataclass(frozen=True)
class Request:
    """What decides about the index of a request, without its values."""

    collection: str
    command: str
    fields: tuple[tuple[str, Comparison], ...] = ()
    sort: tuple[tuple[str, int], ...] = ()
    key: str = ""
    """The field of `distinct`."""

    def index(self) -> Keys | None:
        """The index that bounds what the server reads, and gives the order that is asked for; None without one."""
        candidates = (_OF_IDS, *INDEXES.get(self.collection, ()))
        return next((keys for keys in candidates if self._can_use(keys)), None)

    @property
    def computes(self) -> bool:
        """Whether the server computes an expression for many records: such a condition bounds no index."""
        compared = dict(self.fields)
        return "$expr" in compared and compared.get("_id") is not Comparison.EQUAL

    def _can_use(self, keys: Keys) -> bool:
        names = [name for name, _ in keys]
        compared = dict(self.fields)
        if not self.fields and not self.sort:
            return self.command == "distinct" and names[0] == self.key
        equal = list(takewhile(lambda name: compared.get(name) is Comparison.EQUAL, names))
        following = names[len(equal) :]
        is_bounded = bool(equal) or compared.get(names[0]) in (Comparison.RANGE, Comparison.EXCLUDED)
        sorted_by = [name for name, _ in self.sort if name not in equal]
        is_in_order = sorted_by == following[: len(sorted_by)] and len({way for _, way in self.sort}) <= 1
        # In the order of the index, and nearly each record is wanted: the server stops at the limit.
        wants_nearly_all = set(compared.values()) <= {Comparison.EXCLUDED} and bool(self.sort)
        return is_in_order and (is_bounded or wants_nearly_all)


class RequestRecorder(CommandListener):
    """Give it to a client as an event listener."""

    def __init__(self) -> None:
        self.requests: set[Request] = set()
        self.commands: list[str] = []
        """Each command in its order, with its collection: "find documents"."""

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(f"{event.command_name} {event.command.get(event.command_name)}")
        self.requests.update(requests_of(event.command_name, event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


def requests_of(name: str, command: Mapping[str, Any]) -> Iterator[Request]:
    """The requests in a command; none in a command that looks for no record."""
    collection = command.get(name)
    if not isinstance(collection, str):
        return
    if name == "find":
        yield _request(collection, name, command.get("filter", {}), command.get("sort", {}))
    elif name == "findAndModify":
        yield _request(collection, name, command["query"], command.get("sort", {}))
    elif name == "update":
        yield from (_request(collection, name, one["q"]) for one in command["updates"])
    elif name == "delete":
        yield from (_request(collection, name, one["q"]) for one in command["deletes"])
    elif name == "aggregate":
        yield _request(collection, name, _matched(command["pipeline"]))
    elif name == "distinct":
        yield Request(collection, name, _compared(command.get("query") or {}), key=command["key"])


def _matched(pipeline: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    matched: Mapping[str, Any] = pipeline[0].get("$match", {}) if pipeline else {}
    return matched


def _request(
    collection: str, command: str, wanted: Mapping[str, Any], sort: Mapping[str, int] | None = None
) -> Request:
    return Request(collection, command, _compared(wanted), tuple((sort or {}).items()))


def _compared(wanted: Mapping[str, Any]) -> tuple[tuple[str, Comparison], ...]:
    return tuple(sorted((name, _comparison(name, value)) for name, value in wanted.items()))


def _comparison(name: str, value: object) -> Comparison:
    if name.startswith("$"):
        return Comparison.OTHER
    if not isinstance(value, Mapping) or not any(operator.startswith("$") for operator in value):
        return Comparison.EQUAL
    operators = set(value)
    if operators & {"$eq", "$in"}:
        return Comparison.EQUAL
    if operators & _RANGES:
        return Comparison.RANGE
    return Comparison.EXCLUDED if operators <= _EXCLUSIONS else Comparison.OTHER


WITHOUT_INDEX: Final[Mapping[Request, str]] = {
    Request("documents", "aggregate"): "`pagemill collections list` counts all documents; a person asks for that",
}
"""Requests that read a whole collection, and why they may."""
SMALL: Final[Mapping[str, str]] = {
    "collections": "one record for each collection of documents",
    "keys": "one record for each API key",
    "flows": "one record for each tenant and priority with waiting documents",
    "webhooks": "one record for each subscription",
}
"""Collections that may be read as a whole."""
COMPUTED: Final[Mapping[Request, str]] = {
    Request(
        "documents",
        "find",
        (
            ("$expr", Comparison.OTHER),
            ("_id", Comparison.RANGE),
            ("collection", Comparison.EQUAL),
            ("state", Comparison.EQUAL),
        ),
        (("_id", 1),),
    ): "re-embedding looks at each document of one collection once, in the order of ids",
}
"""Requests with a condition that is computed for many records, and why they may have it."""


def unindexed(requests: set[Request]) -> list[Request]:
    """The requests that read a whole collection, or compute a condition for many records, and may not."""
    return [
        one
        for one in sorted(requests, key=repr)
        if one.collection not in SMALL
        and ((one.index() is None and one not in WITHOUT_INDEX) or (one.computes and one not in COMPUTED))
    ]
