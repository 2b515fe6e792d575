"""What contract tests share: a prepared document store, and a real Milvus server beside the stack's milvus-lite."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from ingestion.adapters.mongo import MongoDocumentStore
from ingestion.bootstrap import Services, open_services
from ingestion.prepare import prepare
from ingestion.settings import Settings
from tests.conftest import clean_environment
from tests.pipelines import COLLECTION
from tests.waiting import wait_until

_MILVUS_SERVER = Path(__file__).parents[2] / ".milvus-venv" / "bin" / "milvus-server"
_START_S = 90.0
_STOP_S = 20.0
_PORT_OPTIONS = (
    "--proxy-port",
    "--proxy-internal-port",
    "--root-coord-port",
    "--query-coord-port",
    "--query-node-port",
    "--index-coord-port",
    "--index-node-port",
    "--data-coord-port",
    "--data-node-port",
)


@pytest.fixture
async def document_store(settings: Settings) -> AsyncIterator[MongoDocumentStore]:
    """On a database of its own, prepared."""
    async with MongoDocumentStore(settings.mongo) as store:
        await store.prepare()
        yield store
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    await client.drop_database(settings.mongo.mongo_database)
    client.close()


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    await prepare(settings)
    async with open_services(settings) as services:
        yield services
        await services.vectors.drop(COLLECTION)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real Milvus server on ports of its own."""
    if not _MILVUS_SERVER.exists():
        pytest.skip("no real Milvus server: `make milvus-server` installs it")
    data = tmp_path_factory.mktemp("milvus")
    etcd_client, etcd_peer, *ports = _free_ports(2 + len(_PORT_OPTIONS))
    options = [text for option, port in zip(_PORT_OPTIONS, ports, strict=True) for text in (option, str(port))]
    with (data / "server.log").open("wb") as log:
        server = psutil.Popen(
            [str(_MILVUS_SERVER), "--data", str(data / "data"), *options],
            # The ports of the etcd inside it can be set in no other way.
            env={**clean_environment(), "ETCD_CONFIG_PATH": str(_etcd_config(data, etcd_client, etcd_peer))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    uri = f"http://127.0.0.1:{ports[0]}"
    try:
        wait_until(lambda: _answers(uri) or server.poll() is not None, _START_S)
        assert server.poll() is None, (data / "server.log").read_text()
        yield uri
    finally:
        _stop(server)


def _answers(uri: str) -> bool:
    try:
        with closing(MilvusClient(uri=uri, timeout=2)) as client:
            client.list_collections(timeout=2)
    except MilvusException:
        return False
    return True


def _stop(server: psutil.Popen) -> None:
    """SIGINT, because the launcher ends the server it started on that signal only; what is left is killed."""
    family = [server, *server.children(recursive=True)]
    server.send_signal(signal.SIGINT)
    _, left = psutil.wait_procs(family, timeout=_STOP_S)
    for process in left:
        process.kill()
    psutil.wait_procs(left)


def _etcd_config(folder: Path, client_port: int, peer_port: int) -> Path:
    client, peer = (f"http://127.0.0.1:{port}" for port in (client_port, peer_port))
    config = folder / "etcd.yaml"
    config.write_text(
        f"name: test\n"
        f"data-dir: {folder / 'etcd'}\n"
        f"listen-client-urls: {client}\n"
        f"advertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: test={peer}\n"
    )
    return config


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]
