"""Names that come from generated modules of pymilvus. These tests fail if a version changes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ingestion
import workers
from ingestion.adapters.milvus import protocol

FIELDS = {
    "UpsertRequest": {"db_name": 2, "collection_name": 3, "fields_data": 5, "num_rows": 7},
    "MutationResult": {"status": 1},
    "SearchRequest": {
        "db_name": 2,
        "collection_name": 3,
        "dsl_type": 7,
        "placeholder_group": 6,
        "output_fields": 8,
        "search_params": 9,
        "guarantee_timestamp": 11,
        "nq": 12,
        "consistency_level": 14,
    },
    "SearchResults": {"status": 1, "results": 2},
    "PlaceholderValue": {"tag": 1, "type": 2, "values": 3},
    "PlaceholderGroup": {"placeholders": 1},
    "KeyValuePair": {"key": 1, "value": 2},
    "Status": {"error_code": 1, "reason": 2, "code": 3, "retriable": 4},
}
"""Field numbers of milvus-proto, which servers read."""


@pytest.mark.parametrize("name", FIELDS)
def test_messages_are_those_of_the_protocol(name: str) -> None:
    message: Any = getattr(protocol, name)
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    assert {field: numbers.get(field) for field in FIELDS[name]} == FIELDS[name]


def test_a_vector_is_the_first_field_of_its_message() -> None:
    """`rows` writes it as bytes."""
    column = protocol.UpsertRequest().fields_data.add()
    [field] = column.vectors.float_vector.DESCRIPTOR.fields
    assert (field.name, field.number, field.cpp_type) == ("data", 1, field.CPPTYPE_FLOAT)


def test_only_one_module_imports_what_pymilvus_generates_for_itself() -> None:
    roots = [Path(package.__file__).parent for package in (ingestion, workers) if package.__file__]
    users = {path.name for root in roots for path in root.rglob("*.py") if "grpc_gen" in path.read_text("utf-8")}
    assert users == {"protocol.py"}


def test_pymilvus_is_not_imported_with_the_adapter() -> None:
    code = "import sys, ingestion.adapters.milvus.store; sys.exit('pymilvus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
