"""Readiness probes: one cheap request in the server's own protocol. A probe raises NotReady until the server is ready.

Each probe imports its own client library, so that commands that start no server import none. The probe of Milvus uses
plain gRPC, because importing pymilvus takes longer than starting the server.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from workers.stack.supervise import NotReady

_CONNECT_TIMEOUT_S: Final = 2.0


async def listening(host: str, port: int) -> None:
    """Check the port first: some client libraries retry a refused connection and log for seconds."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise NotReady(f"{host}:{port} takes no connections") from error
    writer.close()


async def kafka(bootstrap: str) -> None:
    """The broker sends its cluster metadata."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    host, _, port = bootstrap.split(",")[0].rpartition(":")
    await listening(host, int(port))
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
    except (KafkaError, OSError) as error:
        raise NotReady(f"no metadata: {error}") from error
    finally:
        await client.close()


async def mongo(uri: str) -> None:
    """The server answers `ping`."""
    from pymongo.errors import PyMongoError

    from ingestion.adapters.mongo.database import ping

    try:
        await ping(uri, timeout_ms=1000)
    except PyMongoError as error:
        raise NotReady(f"no ping: {error}") from error


async def redis(url: str) -> None:
    """The server answers PING. It refuses PING while it loads its data."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_connect_timeout=_CONNECT_TIMEOUT_S)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise NotReady(f"no ping: {error}") from error
    finally:
        await client.aclose()


async def s3(endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
    """The server accepts the credentials, and the bucket exists."""
    host, _, port = endpoint.rpartition(":")
    await listening(host, int(port))
    await asyncio.to_thread(_bucket_exists, endpoint, access_key, secret_key, bucket)


def _bucket_exists(endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
    import urllib3
    from minio import Minio
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    pool = urllib3.PoolManager(timeout=_CONNECT_TIMEOUT_S, retries=False)
    client = Minio(endpoint, access_key, secret_key, secure=False, region="us-east-1", http_client=pool)
    try:
        if not client.bucket_exists(bucket):
            raise NotReady(f"no bucket {bucket}")
    except (MinioException, HTTPError) as error:
        raise NotReady(f"bucket {bucket}: {error}") from error
    finally:
        pool.clear()


async def milvus(uri: str) -> None:
    """The server lists its collections."""
    import grpc

    async with grpc.aio.insecure_channel(urlsplit(uri).netloc) as channel:
        # An empty request is a valid ShowCollectionsRequest, so no message classes are needed.
        show_collections = channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections")
        try:
            await show_collections(b"", timeout=_CONNECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise NotReady(f"no list of collections: {error.code().name}") from error


async def milvus_lists(uri: str) -> None:
    """Milvus Standalone answers before it is ready. Its answer then contains an error, which pymilvus reads."""
    await asyncio.to_thread(_list_collections, uri)


def _list_collections(uri: str) -> None:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    try:
        client = MilvusClient(uri=uri, timeout=_CONNECT_TIMEOUT_S)
    except MilvusException as error:
        raise NotReady(f"no connection: {error.message}") from error
    try:
        client.list_collections(timeout=_CONNECT_TIMEOUT_S)
    except MilvusException as error:
        raise NotReady(f"no list of collections: {error.message}") from error
    finally:
        client.close()


async def http_ready(url: str) -> None:
    """The server answers `GET url` with 200."""
    import httpx

    try:
        # Without `verify` it loads no certificates, which takes 25 ms at each try. The processes use plain HTTP.
        async with httpx.AsyncClient(timeout=_CONNECT_TIMEOUT_S, trust_env=False, verify=False) as client:
            response = await client.get(url)
    except httpx.HTTPError as error:
        raise NotReady(f"{url}: {error or type(error).__name__}") from error
    if response.status_code != 200:
        raise NotReady(f"{url} answers {response.status_code}: {response.text[:300]}")
