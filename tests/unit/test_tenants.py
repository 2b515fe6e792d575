"""Names of tenants and of their collections."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.adapters.milvus.names import index_name
from ingestion.catalogue.generations import index_of
from ingestion.errors import BadRequest
from ingestion.messages import encode_event
from ingestion.model import check_qualified, check_tenant, document_id, public_name, qualified_name, tenant_of
from tests.support.documents import document

TENANTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)
COLLECTIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True)
_MILVUS_NAME_CHARS = 255


@given(TENANTS, COLLECTIONS)
def test_a_qualified_name_can_be_read_back(tenant: str, collection: str) -> None:
    name = qualified_name(tenant, collection)
    assert (tenant_of(name), public_name(name)) == (tenant, collection)
    assert check_qualified(name) == name


@given(TENANTS, COLLECTIONS, TENANTS, COLLECTIONS)
def test_two_tenants_never_share_a_name_an_id_or_an_index(tenant: str, one: str, other: str, two: str) -> None:
    if (tenant, one) == (other, two):
        return
    names = qualified_name(tenant, one), qualified_name(other, two)
    assert names[0] != names[1]
    assert len({document_id(name, "a.pdf", "0" * 64) for name in names}) == 2
    indexes = {index_name(index_of(name, number)) for name in names for number in (1, 12)}
    assert len(indexes) == 4
    assert all(len(index) < _MILVUS_NAME_CHARS and index.replace("_", "a").isalnum() for index in indexes)


def test_the_default_tenant_keeps_the_names_of_earlier_releases() -> None:
    assert qualified_name("default", "manuals") == "manuals"


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "-a", "a_b", "ä", "a" * 41, "a\n"])
def test_a_tenant_needs_a_usable_name(name: str) -> None:
    with pytest.raises(BadRequest, match="tenant name"):
        check_tenant(name)


@pytest.mark.parametrize("name", ["acme.", ".x", "default.x", "acme.x.y", "acme.x y", "ACME.x"])
def test_another_text_is_no_qualified_name(name: str) -> None:
    with pytest.raises(BadRequest):
        check_qualified(name)


def test_an_event_names_the_tenant_and_its_own_name_of_the_collection() -> None:
    _, value, _ = encode_event(document(collection="acme.manuals"))
    event = json.loads(value)
    assert (event["tenant"], event["collection"]) == ("acme", "manuals")
    _, value, _ = encode_event(document(collection="manuals"))
    event = json.loads(value)
    assert (event["tenant"], event["collection"]) == ("default", "manuals")
