"""Undocumented names of client libraries that the adapters use. A new release may change them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import aiokafka.client
import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from aiokafka.protocol.metadata import MetadataRequest_v5
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor

import ingestion
from ingestion.adapters.kafka.topic_creation import forbid_topic_creation

_PRODUCT = Path(ingestion.__file__).parent.parent
_MONGO = _PRODUCT / "ingestion/adapters/mongo"
_CALL = re.compile(r"(?:self\._(?:documents|pages|collections|counters|letters|archived)|\bcollections?)\s*\.(\w+)\(")
_AWAITED = {
    *("find_one", "find_one_and_update", "insert_one", "insert_many", "update_one", "update_many", "delete_one"),
    *("delete_many", "replace_one", "bulk_write", "count_documents", "distinct", "create_index", "index_information"),
}


def test_aiokafkas_coordinator_has_the_names_that_membership_uses() -> None:
    assert {"_coordinator", "_client"} <= set(AIOKafkaConsumer.__init__.__code__.co_names)
    assert {"_group_instance_id", "_coordination_task"} <= set(GroupCoordinator.__init__.__code__.co_names)
    assert inspect.iscoroutinefunction(GroupCoordinator._maybe_leave_group)
    assert "_maybe_leave_group" in GroupCoordinator.close.__code__.co_names


def test_aiokafkas_producer_has_the_names_that_an_abort_uses() -> None:
    assert {"_message_accumulator", "_sender"} <= set(AIOKafkaProducer.__init__.__code__.co_names)
    assert not inspect.iscoroutinefunction(MessageAccumulator.fail_all)
    assert isinstance(inspect.getattr_static(Sender, "sender_task"), property)


def test_aiokafkas_client_makes_the_metadata_requests_that_create_no_topic() -> None:
    assert "MetadataRequest" in AIOKafkaClient._metadata_update.__code__.co_names
    forbid_topic_creation()
    request = aiokafka.client.MetadataRequest(["topic"]).build(MetadataRequest_v5)
    assert request.allow_auto_topic_creation is False


@pytest.mark.parametrize(
    ("names", "module"),
    [
        ("coordinator|coordination_task|maybe_leave_group|group_instance_id|subscription|fetcher", "membership.py"),
        ("message_accumulator|sender|txn_manager", "abort.py"),
    ],
)
def test_one_module_uses_each_private_name_of_aiokafka(names: str, module: str) -> None:
    private = re.compile(rf"\._({names})\b")
    users = [path for path in (_PRODUCT / "ingestion/adapters/kafka").glob("*.py") if private.search(path.read_text())]
    assert [path.name for path in users] == [module]


def test_one_module_of_the_product_imports_motor() -> None:
    importing = re.compile(r"^\s*(from|import) motor\b", re.MULTILINE)
    modules = [*(_PRODUCT / "ingestion").rglob("*.py"), *(_PRODUCT / "workers").rglob("*.py")]
    assert [path.name for path in modules if importing.search(path.read_text())] == ["database.py"]


def test_adapters_call_only_what_motor_and_pymongos_client_have_in_common() -> None:
    modules = [path for path in _MONGO.glob("*.py") if path.name != "database.py"]
    called = {name for path in modules for name in _CALL.findall(path.read_text())}
    assert called <= {*_AWAITED, "find"}
    assert {"find", "update_one", "insert_one"} <= called


@pytest.mark.parametrize("name", sorted(_AWAITED))
def test_both_clients_await(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(AsyncCollection, name))
    assert hasattr(AsyncIOMotorCollection, name)


def test_pymongos_cursors_have_what_the_adapters_use() -> None:
    assert not inspect.iscoroutinefunction(AsyncCollection.find)
    assert inspect.iscoroutinefunction(AsyncCursor.to_list)
    assert all(hasattr(AsyncCursor, name) for name in ("sort", "limit", "__aiter__"))
