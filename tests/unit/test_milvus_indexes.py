"""The messages to Milvus servers for each index type, without a server."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.client.prepare import Prepare

from ingestion.adapters.milvus import held_indexes
from ingestion.adapters.milvus.held_indexes import HeldIndexes
from ingestion.adapters.milvus.index_types import search_parameters
from ingestion.adapters.milvus.schema import create_collection, create_index
from ingestion.adapters.milvus.search import search_request
from ingestion.errors import IndexUnsupported
from ingestion.settings import MilvusSettings

LITE = "milvus_lite-3.2.2"


class RecordingClient(MilvusClient):
    """Keeps the messages that pymilvus would send to a server of this version."""

    def __init__(self, version: str, index_types: tuple[str, ...] = ()) -> None:
        self.version = version
        self.index_types = list(index_types)
        """What the server answers, one after another."""
        self.sent: list[dict[str, str]] = []
        self.asked = 0

    def get_server_version(self, **_: Any) -> str:
        return self.version

    def create_collection(self, *_: Any, **options: Any) -> None:
        self.sent.append({"collection": "", **options.get("properties", {})})

    def create_index(self, name: str, index_params: Any, *, sync: bool = True, **_: Any) -> None:
        assert not sync, "it would sleep half a second for the index of an empty collection"
        for index in index_params:
            request = Prepare.create_index_request(name, index.field_name, index.get_index_configs())
            self.sent.append({pair.key: pair.value for pair in request.extra_params})

    def list_indexes(self, *_: Any, **__: Any) -> list[str]:
        return ["vector"] if self.index_types else []

    def describe_index(self, *_: Any, **__: Any) -> dict[str, str]:
        self.asked += 1
        return {"index_type": self.index_types.pop(0) if len(self.index_types) > 1 else self.index_types[0]}


def built(version: str, **settings: Any) -> dict[str, str]:
    """The parameters of the index in the message that makes it."""
    client = RecordingClient(version)
    create_index(client, "c", MilvusSettings(**settings))
    [sent] = client.sent
    return sent


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"index_type": "HNSW"}, {"M": "32", "efConstruction": "500"}),
        ({"index_type": "HNSW_SQ"}, {"M": "32", "efConstruction": "500", "sq_type": "SQ8"}),
        ({"index_type": "DISKANN"}, {}),
        ({"index_type": "IVF_RABITQ"}, {"nlist": "1024"}),
        (
            {"index_type": "IVF_RABITQ", "ivf_nlist": 256, "rabitq_refine_type": "SQ8"},
            {"nlist": "256", "refine": "true", "refine_type": "SQ8"},
        ),
        (
            {"index_type": "HNSW", "hnsw_m": 8, "index_mmap": True},
            {"M": "8", "efConstruction": "500", "mmap.enabled": "true"},
        ),
    ],
)
def test_an_index_is_made_with_the_parameters_of_its_type(settings: dict[str, Any], expected: dict[str, str]) -> None:
    assert built("v2.6.4", **settings) == {"index_type": settings["index_type"], "metric_type": "IP"} | expected


def test_milvus_lite_alone_gets_the_parameters_nested_too() -> None:
    sent = built(LITE)
    assert json.loads(sent.pop("params")) == {"M": 32, "efConstruction": 500}
    assert sent == built("2.3.5")


@pytest.mark.parametrize("is_mapped", [True, False])
def test_vectors_of_a_new_collection_are_mapped_from_disk_like_its_index(is_mapped: bool) -> None:
    client = RecordingClient("v2.6.4")
    create_collection(client, "c", 16, MilvusSettings(index_mmap=is_mapped))
    assert client.sent == [{"collection": "", "mmap.enabled": "true"} if is_mapped else {"collection": ""}]


@pytest.mark.parametrize(
    ("version", "settings", "named"),
    [
        (LITE, {"index_type": "DISKANN"}, "PAGEMILL_INDEX_TYPE=DISKANN: .*2.2 or later"),
        (LITE, {"index_type": "IVF_RABITQ"}, "PAGEMILL_INDEX_TYPE=IVF_RABITQ: .*2.6 or later"),
        (LITE, {"index_type": "HNSW_SQ", "index_sq_type": "FP16"}, "PAGEMILL_INDEX_SQ_TYPE=FP16"),
        (LITE, {"index_mmap": True}, "PAGEMILL_INDEX_MMAP=true: .*2.4 or later"),
        ("2.3.5", {"index_mmap": True}, "PAGEMILL_INDEX_MMAP=true: .*2.4 or later"),
        ("2.3.5", {"index_type": "HNSW_SQ"}, "PAGEMILL_INDEX_TYPE=HNSW_SQ: .*2.5 or later"),
        ("v2.5.18", {"index_type": "IVF_RABITQ"}, "PAGEMILL_INDEX_TYPE=IVF_RABITQ: .*2.6 or later"),
        ("v2.6.4", {"index_type": "DISKANN", "index_mmap": True}, "on disk already"),
    ],
)
def test_what_a_server_would_only_pretend_to_do_is_refused_and_nothing_is_made(
    version: str, settings: dict[str, Any], named: str
) -> None:
    client = RecordingClient(version)
    with pytest.raises(IndexUnsupported, match=named):
        create_collection(client, "c", 16, MilvusSettings(**settings))
    with pytest.raises(IndexUnsupported, match=named):
        create_index(client, "c", MilvusSettings(**settings))
    assert not client.sent


@pytest.mark.parametrize("version", ["v2.4.0", "v2.10.1", "3.0", "master-20261101-abc"])
def test_a_later_server_or_one_without_a_release_number_is_asked_for_mmap(version: str) -> None:
    assert built(version, index_mmap=True)["mmap.enabled"] == "true"


@pytest.mark.parametrize(
    ("index_type", "limit", "settings", "expected"),
    [
        ("HNSW", 10, {}, {"ef": 400}),
        ("HNSW_SQ", 800, {}, {"ef": 800}),
        ("DISKANN", 10, {}, {"search_list": 200}),
        ("DISKANN", 100, {}, {"search_list": 400}),
        ("DISKANN", 3_200, {}, {"search_list": 3_200}),
        ("DISKANN", 16_384, {"diskann_search_list": 10**6}, {"search_list": 65_535}),
        ("IVF_RABITQ", 100, {"ivf_nprobe": 9}, {"nprobe": 9}),
        ("IVF_FLAT", 100, {}, {"nprobe": 64}),
        ("AUTOINDEX", 100, {}, {}),
    ],
)
def test_a_search_has_the_parameters_of_the_index_that_there_is(
    index_type: str, limit: int, settings: dict[str, Any], expected: dict[str, int]
) -> None:
    other = "HNSW" if index_type == "DISKANN" else "DISKANN"
    parameters = search_parameters(index_type, limit, MilvusSettings(index_type=other, **settings))
    assert parameters == expected
    request = search_request("c", np.eye(4, dtype=np.float32), limit, parameters=parameters, consistency="Strong")
    sent = {pair.key: pair.value for pair in request.search_params}
    assert json.loads(sent["params"]) == expected
    assert sent["topk"] == str(limit)


def test_only_milvus_lite_is_asked_for_a_field_so_that_it_sends_no_others() -> None:
    assert HeldIndexes().output_fields(RecordingClient(LITE), 1.0) == ("page_key",)
    assert HeldIndexes().output_fields(RecordingClient("2.3.5"), 1.0) == ()


def test_a_server_is_asked_once_for_the_index_of_a_collection_and_again_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = RecordingClient("2.3.5", ("DISKANN", "HNSW", "IVF_FLAT"))
    held = HeldIndexes()
    now = 1000.0
    monkeypatch.setattr(held_indexes, "time", cast(Any, type("Clock", (), {"monotonic": staticmethod(lambda: now)})))
    assert [held.type_of(client, "c", 1.0) for _ in range(3)] == ["DISKANN"] * 3
    now += 61
    assert [held.type_of(client, "c", 1.0) for _ in range(3)] == ["HNSW"] * 3
    held.forget("c")
    assert held.type_of(client, "c", 1.0) == "IVF_FLAT"
    assert client.asked == 3


def test_a_collection_without_an_index_is_asked_for_again() -> None:
    client = RecordingClient("2.3.5")
    held = HeldIndexes()
    assert held.type_of(client, "c", 1.0) is None
    client.index_types = ["DISKANN"]
    assert held.type_of(client, "c", 1.0) == "DISKANN"


def test_milvus_lite_is_not_asked_for_an_index_because_it_counts_all_rows_then() -> None:
    client = RecordingClient(LITE, ("HNSW_SQ",))
    assert search_parameters(str(HeldIndexes().type_of(client, "c", 1.0)), 500, MilvusSettings()) == {"ef": 500}
    assert client.asked == 0
