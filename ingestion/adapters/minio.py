"""The object store, through the synchronous MinIO client. The client works with every S3 server."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from ingestion.adapters.s3_access import NoCredentials, credentials_of, encryption_of, trusting
from ingestion.adapters.threads import Threads
from ingestion.adapters.tls import refused_certificate
from ingestion.concurrency.deadline import limit_s
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyRefused, DependencyUnavailable, IngestError, NotFound, WorkerFault
from ingestion.ports import BlobEntry
from ingestion.retrying import retrying
from ingestion.settings import S3Settings

T = TypeVar("T")

DEPENDENCY = "s3"
_CONNECT_TIMEOUT_S: Final = 3.0
_READ_TIMEOUT_S: Final = 20.0
_CHUNK_BYTES: Final = 256 * 1024
_LISTED: Final = 1000
"""The number of keys in one answer to a listing."""
_PROOF_KEY: Final = "proofs/write"
_UNKNOWN_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""The time of an object whose age the server does not report. Such an object is never old."""

_SERVER_ERROR: Final = 500
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
_BUCKET_EXISTS: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_REFUSED: Final = {
    "AccessDenied": "check PAGEMILL_S3_ACCESS_KEY, PAGEMILL_S3_SECRET_KEY and the rights of that key on the bucket",
    "InvalidAccessKeyId": "check PAGEMILL_S3_ACCESS_KEY",
    "SignatureDoesNotMatch": "check PAGEMILL_S3_SECRET_KEY and PAGEMILL_S3_REGION",
    "ExpiredToken": "renew PAGEMILL_S3_SESSION_TOKEN",
    "InvalidToken": "check PAGEMILL_S3_SESSION_TOKEN",
    "InvalidTokenId": "check PAGEMILL_S3_SESSION_TOKEN",
}
"""What to do about each code of a server that refuses this client."""
# The server cannot work now. Another object would get the same error.
_UNAVAILABLE: Final = frozenset(
    {
        "InternalError",
        "NoSuchBucket",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "SlowDown",
    }
)


def translate(error: MinioException | HTTPError) -> IngestError:
    """Return the IngestError for an exception of the MinIO client or of urllib3."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, S3Error) and error.code in _MISSING:
        return NotFound(f"there is no object {error.object_name}")
    if isinstance(error, NoCredentials):
        return DependencyRefused(DEPENDENCY, f"PAGEMILL_S3_CREDENTIALS=iam finds no credentials of a role ({error})")
    if refused := refused_certificate(
        error, "the S3 server", address_setting="PAGEMILL_S3_ENDPOINT", ca_setting="PAGEMILL_S3_CAFILE"
    ):
        return DependencyRefused(DEPENDENCY, refused)
    if isinstance(error, S3Error) and error.code in _REFUSED:
        return DependencyRefused(DEPENDENCY, f"{_REFUSED[error.code]} ({error.code}: {error.message})")
    if isinstance(error, HTTPError | ServerError | InvalidResponseError):
        return DependencyUnavailable(DEPENDENCY, message)
    if isinstance(error, S3Error) and (error.code in _UNAVAILABLE or _status(error) >= _SERVER_ERROR):
        return DependencyUnavailable(DEPENDENCY, message)
    return WorkerFault(f"{DEPENDENCY}: {message}")


def _status(error: S3Error) -> int:
    """Return the HTTP status. Servers differ in the error code for a full disk, but all answer 507."""
    return getattr(error.response, "status", 0)


class _Pool(urllib3.PoolManager):
    """Tries each request once, within the caller's budget."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> Any:  # type: ignore[override]
        connect_s, read_s = limit_s(DEPENDENCY, _CONNECT_TIMEOUT_S), limit_s(DEPENDENCY, _READ_TIMEOUT_S)
        options |= {"timeout": urllib3.Timeout(connect=connect_s, read=read_s), "retries": False}
        return super().urlopen(method, url, redirect, **options)


class MinioBlobStore:
    """Implements the port BlobStore. At most `s3_concurrency` requests run at once, over kept connections."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._prefix = settings.s3_prefix
        self._encryption = encryption_of(settings)
        self._threads = Threads(settings.s3_concurrency, stage="objects", dependency=DEPENDENCY)

    async def __aenter__(self) -> Self:
        trusted = trusting(self._settings.s3_cafile) if self._settings.s3_secure else None  # to load it takes 30 ms
        self._pool = _Pool(maxsize=self._settings.s3_concurrency, ssl_context=trusted)
        self._client = self._connect(self._settings.s3_endpoint)
        self._signer = self._connect(self._settings.s3_public_endpoint or self._settings.s3_endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.clear()

    def _connect(self, endpoint: str) -> Minio:
        """Return a client. It gets the region, so that it does not request it from the server before signing."""
        client = Minio(
            endpoint,
            credentials=credentials_of(self._settings),
            secure=self._settings.s3_secure,
            region=self._settings.s3_region,
            http_client=self._pool,
        )
        if self._settings.s3_address_style == "virtual":
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif self._settings.s3_address_style == "path":
            client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        return client

    async def prepare(self) -> None:
        """Create the bucket if it is missing. Safe to repeat, also by several processes at once."""

        def make() -> None:
            try:
                if not self._client.bucket_exists(self._bucket):
                    self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code not in _BUCKET_EXISTS:
                    raise

        await self._threads.write(_translated(make), "prepare")

    async def has_bucket(self) -> bool:
        return await self._threads.read(_translated(lambda: self._client.bucket_exists(self._bucket)), "ping")

    async def missing(self) -> list[str]:
        """What `prepare` would create. Empty where nothing is missing."""
        return [] if await self.has_bucket() else [f"the bucket {self._bucket}"]

    async def ping(self) -> None:
        if not await self.has_bucket():
            raise DependencyUnavailable(DEPENDENCY, f"there is no bucket {self._bucket}")

    async def prove(self) -> None:
        """Write an object of one byte and delete it, because a server that answers pings may have a full disk.

        All processes write the same object, so that killed processes leave at most one.
        """

        def write() -> None:
            self._put(_PROOF_KEY, b".", "text/plain")
            self._client.remove_object(self._bucket, self._prefix + _PROOF_KEY)

        await self._threads.write(_translated(write), "prove")

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await self._threads.write(_translated(lambda: self._put(key, data, content_type)), "put")

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        def put() -> None:
            self._client.fput_object(self._bucket, self._prefix + key, str(path), content_type, sse=self._encryption)

        await self._threads.write(_translated(put), "put_file")

    async def get(self, key: str) -> bytes:
        return await self._threads.read(_translated(lambda: self._read(key)), "get")

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        # Each key is retried on its own, so that one failed key of hundreds does not fetch all of them again.
        return await gather_or_cancel(*(retrying(self.get, key) for key in keys))

    async def fetch_file(self, key: str, path: Path) -> None:
        # `write` waits for the thread: a cancelled caller may remove the folder that the thread writes to.
        await self._threads.write(_translated(lambda: self._fetch(key, path)), "get_file")

    async def list_keys(self, prefix: str) -> list[str]:
        return await self._threads.read(_translated(lambda: self._list(prefix)), "list")

    async def entries(self, prefix: str) -> AsyncIterator[BlobEntry]:
        listing = self._client.list_objects(self._bucket, self._prefix + prefix, recursive=True)

        def more() -> list[BlobEntry]:
            items = islice(listing, _LISTED)
            return [BlobEntry(self._key(item.object_name), item.last_modified or _UNKNOWN_TIME) for item in items]

        while batch := await self._threads.read(_translated(more), "list"):
            for entry in batch:
                yield entry

    async def delete_prefix(self, prefix: str) -> int:
        return await self._threads.write(_translated(lambda: self._delete(prefix)), "delete")

    async def delete(self, keys: Sequence[str]) -> None:
        await self._threads.write(_translated(lambda: self._remove(keys)), "delete")

    async def presign(self, key: str, expires_s: int) -> str:
        def sign() -> str:
            url: str = self._signer.presigned_get_object(
                self._bucket, self._prefix + key, expires=timedelta(seconds=expires_s)
            )
            return url

        # The credentials of a role may have to be fetched first.
        if self._settings.s3_credentials == "iam":
            return await self._threads.read(_translated(sign), "presign")
        return sign()

    def _key(self, object_name: str) -> str:
        return object_name[len(self._prefix) :]

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        self._client.put_object(
            self._bucket, self._prefix + key, io.BytesIO(data), len(data), content_type, sse=self._encryption
        )

    def _read(self, key: str) -> bytes:
        return b"".join(self._chunks(key))

    def _fetch(self, key: str, path: Path) -> None:
        """Write the object to `path`. The file appears at `path` only once it is complete."""
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                for chunk in self._chunks(key):
                    file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _chunks(self, key: str) -> Iterator[bytes]:
        """Yield the object in chunks. Raises DependencyUnavailable once the budget is spent, also between chunks."""
        response = self._client.get_object(self._bucket, self._prefix + key)
        try:
            # urllib3 raises IncompleteRead where the body ends before its Content-Length.
            while chunk := response.read1(_CHUNK_BYTES):
                yield chunk
                limit_s(DEPENDENCY, _READ_TIMEOUT_S)
        finally:
            response.close()
            response.release_conn()

    def _list(self, prefix: str) -> list[str]:
        listing = self._client.list_objects(self._bucket, self._prefix + prefix, recursive=True)
        return [self._key(item.object_name) for item in listing]

    def _delete(self, prefix: str) -> int:
        keys = self._list(prefix)
        self._remove(keys)
        return len(keys)

    def _remove(self, keys: Sequence[str]) -> None:
        # The client deletes a thousand keys with each request, and sends them only while its result is iterated.
        errors = list(self._client.remove_objects(self._bucket, (DeleteObject(self._prefix + key) for key in keys)))
        if errors:
            first = errors[0]
            raise WorkerFault(
                f"{len(errors)} of {len(keys)} objects were not deleted; "
                f"the first, {first.name}: {first.code} {first.message}"
            )


def _translated(request: Callable[[], T]) -> Callable[[], T]:
    def call() -> T:
        try:
            return request()
        except (MinioException, HTTPError) as error:
            raise translate(error) from error

    return call
