"""Undocumented names of client libraries that the adapters use. A new release may change them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor

import ingestion

_PRODUCT = Path(ingestion.__file__).parent.parent
_MONGO = _PRODUCT / "ingestion/adapters/mongo"
_CALL = re.compile(r"(?:self\._(?:documents|pages|collections|counters|letters|archived)|\bcollections?)\s*\.(\w+)\(")
_AWAITED = {
    *("find_one", "find_one_and_update", "insert_one", "insert_many", "update_one", "update_many", "delete_one"),
    *("delete_many", "bulk_write", "count_documents", "distinct", "create_index"),
}


def test_aiokafkas_coordinator_has_the_names_that_membership_uses() -> None:
    assert "_coordinator" in AIOKafkaConsumer.__init__.__code__.co_names
    assert {"_group_instance_id", "_coordination_task"} <= set(GroupCoordinator.__init__.__code__.co_names)
    assert inspect.iscoroutinefunction(GroupCoordinator._maybe_leave_group)
    assert "_maybe_leave_group" in GroupCoordinator.close.__code__.co_names


def test_only_membership_uses_private_names_of_aiokafka() -> None:
    private = re.compile(
        r"\._(coordinator|coordination_task|maybe_leave_group|group_instance_id|subscription|fetcher)\b"
    )
    users = [path for path in (_PRODUCT / "ingestion").rglob("*.py") if private.search(path.read_text())]
    assert [path.name for path in users] == ["membership.py"]


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
