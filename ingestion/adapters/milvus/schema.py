"""The fields and the index of a Milvus collection, created where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ingestion.adapters.milvus.errors import translate
from ingestion.adapters.milvus.index_types import MMAP, MMAP_SINCE, NEEDED, SINCE, build_parameters
from ingestion.adapters.milvus.server_version import ServerVersion, server_version
from ingestion.adapters.milvus.stand_in import LITE_TYPES, nested
from ingestion.errors import DependencyUnavailable, EmbedderMismatch, IndexUnsupported
from ingestion.settings import MilvusSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

STRONG: Final = "Strong"
VECTOR: Final = "vector"
METRIC: Final = "IP"


def ensure_index(
    client: MilvusClient, name: str, dim: int, settings: MilvusSettings, known: set[tuple[str, int]]
) -> None:
    """Make the index of the Milvus collection `name` where it is missing, and load the collection.

    Another process may have made the collection and not yet its index. An index that exists stays as it is, also
    where the settings differ. `known` holds names and server ids of collections that this process has found complete.
    They are not checked again.

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
    """Raises IndexUnsupported where the server is known not to make the index: then nothing is created."""
    from pymilvus import DataType

    _check_server(client, settings)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("page_key", DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    timeout_s = settings.milvus_timeout_s
    # An index that does not hold the vectors themselves, such as HNSW_SQ, has them loaded beside it.
    properties = {"properties": {MMAP: "true"}} if settings.index_mmap else {}
    _unless_there(
        lambda: client.create_collection(
            name, schema=schema, consistency_level=STRONG, timeout=timeout_s, **properties
        ),
        there=lambda: bool(client.has_collection(name, timeout=timeout_s)),
    )


def create_index(client: MilvusClient, name: str, settings: MilvusSettings) -> None:
    """Create the index that the settings name, on the vectors of `name`. Raises IndexUnsupported."""
    version = _check_server(client, settings)
    parameters = build_parameters(settings)
    if settings.index_mmap:
        parameters[MMAP] = "true"
    index = client.prepare_index_params()
    index.add_index(
        VECTOR,
        index_type=settings.index_type,
        metric_type=METRIC,
        params=nested(parameters) if version.is_lite else parameters,
    )
    timeout_s = settings.milvus_timeout_s
    try:
        _unless_there(
            # pymilvus would sleep half a second before it looks whether the index of the empty collection is built.
            lambda: client.create_index(name, index, timeout=timeout_s, sync=False),
            there=lambda: bool(client.list_indexes(name, timeout=timeout_s)),
        )
    except Exception as error:
        if settings.index_type == "HNSW" or isinstance(translate(error), DependencyUnavailable):
            raise
        raise _unsupported(settings, version.text, f" ({error})") from error


def _check_server(client: MilvusClient, settings: MilvusSettings) -> ServerVersion:
    """Ask the server for its version, and refuse what it cannot make, or would accept and not do.

    Milvus Lite accepts every index type and every precision, and uses SQ8; it and Milvus before 2.4 ignore mmap.
    Raises IndexUnsupported.
    """
    version = server_version(client, settings.milvus_timeout_s)
    if version.is_lite and settings.index_type not in LITE_TYPES:
        raise _unsupported(settings, version.text)
    if version.is_before(*SINCE[settings.index_type]):
        raise _unsupported(settings, version.text)
    if version.is_lite and settings.index_type == "HNSW_SQ" and settings.index_sq_type != "SQ8":
        raise IndexUnsupported(
            f"PAGEMILL_INDEX_SQ_TYPE={settings.index_sq_type}: this server ({version.text}) knows SQ8 only"
        )
    if settings.index_mmap:
        _check_mmap(version, settings)
    return version


def _check_mmap(version: ServerVersion, settings: MilvusSettings) -> None:
    if settings.index_type == "DISKANN":
        raise IndexUnsupported(
            "PAGEMILL_INDEX_MMAP=true: PAGEMILL_INDEX_TYPE=DISKANN is on disk already; set one of the two"
        )
    if version.is_lite or version.is_before(*MMAP_SINCE):
        raise IndexUnsupported(
            f"PAGEMILL_INDEX_MMAP=true: Milvus {version.text} does not map an index from disk on request; set false, "
            "or use Milvus 2.4 or later (Milvus 2.3 maps all collections where queryNode.mmapDirPath is set)"
        )


def _unsupported(settings: MilvusSettings, version: str, cause: str = "") -> IndexUnsupported:
    return IndexUnsupported(
        f"PAGEMILL_INDEX_TYPE={settings.index_type}: Milvus {version} does not make this index; set HNSW, or use "
        f"{NEEDED[settings.index_type]}{cause}"
    )


def _unless_there(create: Callable[[], None], there: Callable[[], bool]) -> None:
    """Call `create`; ignore its error where another process has created the same thing meanwhile."""
    try:
        create()
    except Exception:
        if not there():
            raise


def _dim_of(description: dict[str, Any]) -> int:
    return next(int(field["params"]["dim"]) for field in description["fields"] if field["name"] == VECTOR)
