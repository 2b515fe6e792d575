"""The fields and the index of a Milvus collection, created where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ingestion.adapters.milvus.errors import translate
from ingestion.errors import DependencyUnavailable, EmbedderMismatch, IndexUnsupported
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

STRONG: Final = "Strong"
VECTOR: Final = "vector"
METRIC: Final = "IP"
_LITE: Final = "milvus_lite"


def ensure_index(
    client: MilvusClient, name: str, dim: int, settings: MilvusSettings, known: set[tuple[str, int]]
) -> None:
    """Make the HNSW index of the Milvus collection `name` where it is missing, and load the collection.

    Another process may have made the collection and not yet its index. An index that exists stays as it is, also
    where the settings differ. `known` holds names and server ids of collections that this process has found complete.
    They are not checked again: Milvus Lite counts all rows whenever it is asked for an index.

    Raises EmbedderMismatch, IndexUnsupported.
    """
    timeout_s = settings.milvus_timeout_s
    found = client.describe_collection(name, timeout=timeout_s)
    if (held := _dim_of(found)) != dim:
        raise EmbedderMismatch(f"{name} holds vectors of {held} dimensions, not {dim}")
    if (name, found["collection_id"]) in known:
        return
    if not client.list_indexes(name, timeout=timeout_s):
        create_index(client, name, settings)
    client.load_collection(name, timeout=timeout_s)
    known.add((name, found["collection_id"]))


def create_collection(client: MilvusClient, name: str, dim: int, settings: MilvusSettings) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("page_key", DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    timeout_s = settings.milvus_timeout_s
    _unless_there(
        lambda: client.create_collection(name, schema=schema, consistency_level=STRONG, timeout=timeout_s),
        there=lambda: bool(client.has_collection(name, timeout=timeout_s)),
    )


def create_index(client: MilvusClient, name: str, settings: MilvusSettings) -> None:
    """Create the index that the settings name, on the vectors of `name`. Raises IndexUnsupported."""
    graph: dict[str, object] = {"M": settings.hnsw_m, "efConstruction": settings.hnsw_ef_construction}
    if settings.index_type == "HNSW_SQ":
        _check_sq_type(client, settings)
        graph["sq_type"] = settings.index_sq_type
    index = client.prepare_index_params()
    # Sent twice, flat and nested: pymilvus 3 flattens, and Milvus Lite reads the nested form only.
    index.add_index(
        VECTOR, index_type=settings.index_type, metric_type=METRIC, params={**graph, "params": dict(graph)}
    )
    timeout_s = settings.milvus_timeout_s
    try:
        _unless_there(
            lambda: client.create_index(name, index, timeout=timeout_s),
            there=lambda: bool(client.list_indexes(name, timeout=timeout_s)),
        )
    except Exception as error:
        if settings.index_type == "HNSW" or isinstance(translate(error), DependencyUnavailable):
            raise
        raise IndexUnsupported(
            f"PAGEMILL_INDEX_TYPE={settings.index_type}: Milvus {_version(client, settings)} does not make this "
            f"index; set HNSW, or use Milvus 2.5 or later ({error})"
        ) from error


def _check_sq_type(client: MilvusClient, settings: MilvusSettings) -> None:
    """Milvus Lite accepts every type and uses SQ8."""
    version = _version(client, settings)
    if version.startswith(_LITE) and settings.index_sq_type != "SQ8":
        raise IndexUnsupported(
            f"PAGEMILL_INDEX_SQ_TYPE={settings.index_sq_type}: this server ({version}) knows SQ8 only"
        )


def _version(client: MilvusClient, settings: MilvusSettings) -> str:
    return str(client.get_server_version(timeout=settings.milvus_timeout_s))


def _unless_there(create: Callable[[], None], there: Callable[[], bool]) -> None:
    """Call `create`; ignore its error where another process has created the same thing meanwhile."""
    try:
        create()
    except Exception:
        if not there():
            raise


def _dim_of(description: dict[str, Any]) -> int:
    return next(int(field["params"]["dim"]) for field in description["fields"] if field["name"] == VECTOR)
