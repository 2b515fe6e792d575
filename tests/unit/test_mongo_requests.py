"""Which index a request to MongoDB can use: the rule that the contract tests hold the adapters' requests against."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.mongo_requests import Request, requests_of, unindexed

STATE = {"state": "queued"}


def find(wanted: dict[str, Any], sort: dict[str, int] | None = None, collection: str = "documents") -> Request:
    [request] = requests_of("find", {"find": collection, "filter": wanted, "sort": sort or {}})
    return request


@pytest.mark.parametrize(
    ("wanted", "sort", "index"),
    [
        ({"_id": {"$in": ["a"]}}, {}, ["_id"]),
        ({"_id": "a", "fence": 1, "$expr": {}}, {}, ["_id"]),
        ({**STATE, "updated_at": {"$lte": 1}, "$or": []}, {"updated_at": 1}, ["state", "updated_at"]),
        ({"state": {"$in": ["a", "b"]}}, {"updated_at": -1}, ["state", "updated_at"]),
        ({"state": {"$nin": ["a"]}}, {}, ["state", "updated_at"]),
        ({"collection": "c", **STATE}, {"first_page_key": 1}, ["collection", "first_page_key"]),
        ({"state": {"$ne": "deleted"}}, {"_id": 1}, ["_id"]),
    ],
)
def test_a_request_uses_an_index(wanted: dict[str, Any], sort: dict[str, int], index: list[str]) -> None:
    found = find(wanted, sort).index()
    assert found is not None
    assert [name for name, _ in found] == index


@pytest.mark.parametrize(
    ("wanted", "sort"),
    [
        ({}, {}),
        ({"outbox": "pending"}, {}),
        ({"$expr": {"$lte": ["$updated_at", "$$NOW"]}}, {}),
        ({"updated_at": {"$lte": 1}}, {"updated_at": 1}),
        (STATE, {"size_bytes": 1}),
        ({"state": {"$nin": ["a"]}}, {"updated_at": 1}),
        ({"outbox": "pending"}, {"_id": 1}),
        ({"collection": {"$exists": True}}, {}),
        (STATE, {"updated_at": 1, "filename": 1}),
    ],
)
def test_a_request_reads_the_whole_collection_or_sorts_it(wanted: dict[str, Any], sort: dict[str, int]) -> None:
    request = find(wanted, sort)
    assert request.index() is None
    assert unindexed({request}) == [request]


def test_a_condition_that_is_computed_bounds_no_index() -> None:
    computed = find({**STATE, "$expr": {"$lte": ["$updated_at", "$$NOW"]}}, {"updated_at": 1})
    of_one_record = find({"_id": "a", "$expr": {"$lte": ["$lease_until", 1]}})
    assert unindexed({computed, of_one_record}) == [computed]


def test_every_command_that_looks_for_records_is_seen() -> None:
    wanted = {"name": "x"}
    commands: dict[str, dict[str, Any]] = {
        "find": {"filter": wanted},
        "findAndModify": {"query": wanted},
        "update": {"updates": [{"q": wanted, "u": {}}]},
        "delete": {"deletes": [{"q": wanted, "limit": 1}]},
        "aggregate": {"pipeline": [{"$match": wanted}, {"$group": {}}]},
        "distinct": {"key": "state", "query": wanted},
    }
    for name, command in commands.items():
        [request] = requests_of(name, {name: "documents", **command})
        assert unindexed({request}) == [request]
    assert not list(requests_of("insert", {"insert": "documents", "documents": [wanted]}))


def test_a_distinct_without_a_condition_reads_an_index_of_its_field() -> None:
    [indexed] = requests_of("distinct", {"distinct": "documents", "key": "collection"})
    [not_indexed] = requests_of("distinct", {"distinct": "documents", "key": "filename"})
    assert unindexed({indexed, not_indexed}) == [not_indexed]
