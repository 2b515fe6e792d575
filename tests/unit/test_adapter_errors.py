"""Every exception class of a client library becomes one of ours at the port."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import bson.errors
import grpc
import httpx
import minio.error
import numpy as np
import pymilvus.exceptions
import pymongo.errors
import pytest
import redis.exceptions
import urllib3.exceptions
from pymilvus.grpc_gen.common_pb2 import Status
from pymilvus.grpc_gen.milvus_pb2 import MutationResult

from ingestion.adapters import minio as minio_adapter
from ingestion.adapters.embedding import requests
from ingestion.adapters.milvus import errors, rows
from ingestion.adapters.mongo import errors as mongo_errors
from ingestion.adapters.mongo.database import insert_new
from ingestion.adapters.redis import progress as redis_adapter
from ingestion.errors import (
    BadRequest,
    DependencyRefused,
    DependencyUnavailable,
    Fault,
    IngestError,
    NotFound,
    PermanentError,
    RetryableError,
    WorkerFault,
)
from ingestion.model import Page, PageVectors
from ingestion.settings import MilvusSettings


def family(*roots: type[Exception]) -> list[type[Exception]]:
    """The classes and everything derived from them, in a stable order."""

    def walk(root: type[Exception]) -> Iterator[type[Exception]]:
        yield root
        for child in root.__subclasses__():
            yield from walk(child)

    found = {kind for root in roots for kind in walk(root)}
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


BULK_FAILURE = {"writeErrors": [{"index": 0, "code": 50, "errmsg": "cause", "op": {"text": "page text"}}]}

MADE_WITH: dict[type[Exception], tuple[Any, ...]] = {
    pymongo.errors.BulkWriteError: (BULK_FAILURE,),
    pymongo.errors.ClientBulkWriteException: ({}, False),
    pymongo.errors.EncryptionError: (ValueError("cause"),),
    pymongo.errors.EncryptedCollectionError: (ValueError("cause"), {}),
    minio.error.S3Error: (None, "InvalidRequest", "cause", "/resource", "request", "host"),
    urllib3.exceptions.IncompleteRead: (1, 2),
}


def instance(kind: type[Exception]) -> Any:
    """An exception of that class, with a message where its constructor wants more than that."""
    if kind in MADE_WITH:
        return kind(*MADE_WITH[kind])
    error = kind.__new__(kind)
    Exception.__init__(error, "cause")
    return error


def s3_error(code: str) -> minio.error.S3Error:
    return minio.error.S3Error(None, code, "cause", "/resource", "request", "host", "bucket", "key")


class RpcFailure(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__("cause")
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


@pytest.mark.parametrize("kind", family(pymongo.errors.PyMongoError, bson.errors.BSONError, UnicodeError))
def test_every_mongodb_exception_is_translated(kind: type[Exception]) -> None:
    by_constructor = kind not in MADE_WITH and issubclass(kind, pymongo.errors.PyMongoError)
    error = kind("cause") if by_constructor else instance(kind)
    assert isinstance(mongo_errors.translate(error), IngestError)


@pytest.mark.parametrize("kind", family(minio.error.MinioException, urllib3.exceptions.HTTPError))
def test_every_s3_exception_is_translated(kind: type[Exception]) -> None:
    if kind is urllib3.exceptions.InvalidChunkLength:
        response = SimpleNamespace(tell=lambda: 1, length_remaining=2)
        error: Exception = urllib3.exceptions.InvalidChunkLength(response, b"zz")  # type: ignore[arg-type]
    else:
        error = instance(kind)
    assert isinstance(minio_adapter.translate(error), RetryableError)


@pytest.mark.parametrize("kind", family(pymilvus.exceptions.MilvusException))
def test_every_milvus_exception_is_translated(kind: type[Exception]) -> None:
    assert isinstance(errors.translate(kind()), RetryableError)


def test_a_message_that_milvus_cannot_take_is_no_outage_of_it() -> None:
    refused = pymilvus.exceptions.MilvusException(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (268435457 vs. 268435456)"
    )
    assert type(errors.translate(refused)) is BadRequest


@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_every_grpc_status_is_translated(status: grpc.StatusCode) -> None:
    assert isinstance(errors.translate(RpcFailure(status)), RetryableError)


@pytest.mark.parametrize("kind", family(redis.exceptions.RedisError))
def test_every_redis_exception_is_translated(kind: type[Exception]) -> None:
    assert isinstance(redis_adapter.translate(instance(kind)), RetryableError)


@pytest.mark.parametrize("kind", family(httpx.TransportError))
def test_every_failure_on_the_way_to_the_embedding_service_is_an_outage(kind: type[httpx.TransportError]) -> None:
    assert isinstance(requests.translate(kind("cause")), DependencyUnavailable)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, BadRequest),
        (413, BadRequest),
        (422, BadRequest),
        (401, DependencyUnavailable),
        (404, DependencyUnavailable),
        (429, DependencyUnavailable),
        (502, requests.Unanswered),
        (503, DependencyUnavailable),
        (504, requests.Unanswered),
        (500, requests.ServerFailed),
    ],
)
def test_each_refusal_of_the_embedding_service_has_its_error(status: int, expected: type[IngestError]) -> None:
    response = httpx.Response(status, text="cause", request=httpx.Request("POST", "http://embedder"))
    with pytest.raises(httpx.HTTPStatusError) as refused:
        response.raise_for_status()
    translated = requests.translate(refused.value)
    assert type(translated) is expected
    assert "cause" in translated.message


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    silent = [
        mongo_errors.translate(pymongo.errors.ServerSelectionTimeoutError("no server")),
        mongo_errors.translate(pymongo.errors.NetworkTimeout("slow")),
        mongo_errors.translate(pymongo.errors.ExecutionTimeout("slow", 50)),
        mongo_errors.translate(pymongo.errors.NotPrimaryError("election")),
        minio_adapter.translate(urllib3.exceptions.ReadTimeoutError(None, "/", "slow")),  # type: ignore[arg-type]
        minio_adapter.translate(urllib3.exceptions.IncompleteRead(1, 2)),
        minio_adapter.translate(s3_error("SlowDown")),
        minio_adapter.translate(minio.error.ServerError("down", 503)),
        errors.translate(pymilvus.exceptions.MilvusException(2, "no connection")),
        errors.translate(pymilvus.exceptions.MilvusException(grpc.StatusCode.UNAVAILABLE, "retries")),
        errors.translate(pymilvus.exceptions.MilvusException(65535, "later", retriable=True)),
        errors.translate(grpc.FutureTimeoutError()),
        errors.translate(RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED)),
        redis_adapter.translate(redis.exceptions.ConnectionError("refused")),
        redis_adapter.translate(redis.exceptions.TimeoutError("slow")),
        redis_adapter.translate(redis.exceptions.BusyLoadingError("loading")),
    ]
    assert [type(error) for error in silent] == [DependencyUnavailable] * len(silent)


@pytest.mark.parametrize(("retriable", "expected"), [(True, DependencyUnavailable), (False, WorkerFault)])
def test_a_refusal_of_a_starting_index_is_retryable(
    monkeypatch: pytest.MonkeyPatch, retriable: bool, expected: type[IngestError]
) -> None:
    writer = rows.RowWriter(MilvusSettings(milvus_uri="http://127.0.0.1:1"), [])
    status = Status(code=1, reason="service not ready", retriable=retriable)
    monkeypatch.setattr(writer, "_send", lambda request, **options: MutationResult(status=status))
    with pytest.raises(pymilvus.exceptions.MilvusException) as refused:
        writer.write("c", [PageVectors(Page(1, 10, 10, b"", ""), 1, np.eye(4, dtype=np.float32))], 1.0)
    assert type(errors.translate(refused.value)) is expected
    writer.close()


def test_a_login_that_is_refused_is_not_the_documents_fault() -> None:
    refused = [
        mongo_errors.translate(pymongo.errors.OperationFailure("no", 18)),
        minio_adapter.translate(s3_error("SignatureDoesNotMatch")),
        errors.translate(RpcFailure(grpc.StatusCode.UNAUTHENTICATED)),
        redis_adapter.translate(redis.exceptions.AuthenticationError("no")),
    ]
    assert [type(error) for error in refused] == [DependencyRefused] * len(refused)
    assert [error.fault for error in refused] == [Fault.SERVER] * len(refused)


def test_a_missing_object_is_not_found() -> None:
    assert isinstance(minio_adapter.translate(s3_error("NoSuchKey")), NotFound)


def test_a_record_that_cannot_be_held_is_permanent() -> None:
    in_bulk = {"writeErrors": [{"index": 0, "code": 17420, "errmsg": "larger than 16777216", "op": {}}]}
    for error in (pymongo.errors.DocumentTooLarge("17 MB"), pymongo.errors.BulkWriteError(in_bulk)):
        translated = mongo_errors.translate(error)
        assert isinstance(translated, BadRequest)
        assert isinstance(translated, PermanentError)


def test_a_write_that_too_few_servers_have_is_an_outage() -> None:
    error = pymongo.errors.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]})
    assert isinstance(mongo_errors.translate(error), DependencyUnavailable)


async def test_records_that_exist_are_left_out_of_an_insert_and_nothing_else_is() -> None:
    class Collection:
        def __init__(self, **details: object) -> None:
            self.details = details

        async def insert_many(self, _: object, *, ordered: bool) -> None:
            raise pymongo.errors.BulkWriteError(self.details)

    known, unsafe = [{"index": 1, "code": 11_000}], [{"code": 64}]
    assert await insert_new(cast(Any, Collection(writeErrors=known)), [{}, {}]) == {1}
    for details in (
        {"writeErrors": [], "writeConcernErrors": unsafe},
        {"writeErrors": known, "writeConcernErrors": unsafe},
        {"writeErrors": [*known, {"index": 0, "code": 121}]},
    ):
        with pytest.raises(pymongo.errors.BulkWriteError):
            await insert_new(cast(Any, Collection(**details)), [{}, {}])


def test_a_failed_write_does_not_put_its_record_into_the_message() -> None:
    message = mongo_errors.translate(pymongo.errors.BulkWriteError(BULK_FAILURE)).message
    assert "cause" in message
    assert "page text" not in message


def test_an_unforeseen_error_keeps_its_cause_in_the_message() -> None:
    for error in (
        mongo_errors.translate(pymongo.errors.OperationFailure("bad $expr", 2)),
        minio_adapter.translate(s3_error("InvalidRequest")),
        errors.translate(pymilvus.exceptions.ParamError(message="bad topk")),
        redis_adapter.translate(redis.exceptions.ResponseError("WRONGTYPE")),
    ):
        assert type(error) is WorkerFault
        assert any(cause in error.message for cause in ("bad $expr", "InvalidRequest", "bad topk", "WRONGTYPE"))
