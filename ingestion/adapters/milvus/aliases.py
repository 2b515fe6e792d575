"""Aliases: a later generation of a collection is found under the collection's own name as well.

Pagemill uses the record of the collection, which names the current generation. The alias is for people and programs
that read Milvus directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.adapters.milvus.errors import NOT_FOUND, milvus_code

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def point_alias(client: MilvusClient, alias: str, name: str, timeout_s: float) -> None:
    """Make `alias` an alias of `name`; it is moved from any other name. Safe to repeat."""
    target = _target(client, alias, timeout_s)
    if target == name:
        return
    if target is None:
        client.create_alias(name, alias, timeout=timeout_s)
    else:
        client.alter_alias(name, alias, timeout=timeout_s)


def drop_with_aliases(client: MilvusClient, name: str, timeout_s: float) -> None:
    """Drop the collection `name` and all its aliases, or the alias `name`. No error where there is neither."""
    try:
        _drop(client, name, timeout_s)
    except Exception as error:
        if milvus_code(error) != NOT_FOUND:
            raise


def _drop(client: MilvusClient, name: str, timeout_s: float) -> None:
    described = client.describe_collection(name, timeout=timeout_s)
    if described["collection_name"] != name:
        client.drop_alias(name, timeout=timeout_s)
        return
    for alias in described.get("aliases") or ():
        client.drop_alias(alias, timeout=timeout_s)
    # Released first: otherwise a server may go on building an index that is not needed any more.
    client.release_collection(name, timeout=timeout_s)
    client.drop_collection(name, timeout=timeout_s)


def _target(client: MilvusClient, alias: str, timeout_s: float) -> str | None:
    """The collection that `alias` stands for, None where there is no such alias."""
    try:
        return str(client.describe_collection(alias, timeout=timeout_s)["collection_name"])
    except Exception as error:
        if milvus_code(error) != NOT_FOUND:
            raise
        return None
