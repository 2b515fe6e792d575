"""Real servers for the tests, started once per session. Tests share them under names of their own."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
import urllib3
from hypothesis import settings as hypothesis_settings
from minio import Minio
from redis import Redis

from ingestion.settings import S3Settings, Settings
from tests.support.brokers import main_broker, other_broker, running_broker, set_kafka_home
from tests.support.waiting import wait_until
from workers.stack.datadir import DataDir
from workers.stack.servers import LocalServers
from workers.stack.stack_file import environment_of

# An example may be slow on a busy machine, or under coverage: no test is timed.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

set_kafka_home()

# Tests start Python some hundred times: without stored bytecode each process compiles the modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# By default structlog colours the source lines of a traceback, which takes a tenth of a second for each one logged.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

_START_S = 90.0
_STOP_S = 60.0
_REDIS_DATABASES = itertools.cycle(range(1, 512))


def clean_environment() -> dict[str, str]:
    """The environment of this process without its Pagemill settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PAGEMILL_")}


class Up:
    """`pagemill up` as a child process. `settings`: those of its user."""

    def __init__(self, data_dir: Path, *options: str, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.output = data_dir / "up.log"
        data_dir.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", "--data-dir", str(data_dir), *options],
                env=clean_environment() | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_ready(self) -> dict[str, Any]:
        """Wait for the stack and return its stack.json."""
        directory = DataDir(self.data_dir)
        wait_until(lambda: directory.read_stack() or self.process.poll() is not None, _START_S)
        content = directory.read_stack()
        assert content, self.output.read_text()
        return content

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit status. Kills the process and raises TimeoutExpired after 60 s."""
        self.process.send_signal(number)
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a running `pagemill up --workers 1`."""
    if given := os.environ.get("PAGEMILL_TEST_STACK"):
        yield Path(given).parent
        return
    data_dir = tmp_path_factory.mktemp("stack")
    up = Up(data_dir, "--workers", "1")
    try:
        up.wait_ready()
        yield data_dir
    finally:
        with suppress(ProcessLookupError):
            up.stop()
        shutil.rmtree(data_dir / "s3", ignore_errors=True)  # the logs stay, to investigate a failure


@pytest.fixture(scope="session")
def stack(stack_dir: Path) -> dict[str, Any]:
    """The stack.json of the running stack."""
    content: dict[str, Any] = json.loads((stack_dir / "stack.json").read_text())
    return content


@pytest.fixture
def api(stack: dict[str, Any]) -> Iterator[httpx.Client]:
    """A client of the running stack's API, with its key."""
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    with httpx.Client(base_url=f"{stack['api_url']}/api/v1", headers=headers, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_env(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, str]]:
    """The addresses of five running servers: those of `stack` if a test of this session needs it anyway."""
    wants_stack = any("stack_dir" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if wants_stack or "PAGEMILL_TEST_STACK" in os.environ:
        yield environment_of(request.getfixturevalue("stack"))
        return
    async with LocalServers(DataDir(tmp_path_factory.mktemp("servers"))) as servers:
        yield servers.environment


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the mark `each_broker` on Apache Kafka and on noida-db, as far as they are installed."""
    if metafunc.definition.get_closest_marker("each_broker") and "broker_env" in metafunc.fixturenames:
        kinds = [main_broker(), *filter(None, [other_broker()])]
        metafunc.parametrize("broker_env", kinds, indirect=True, ids=[kind.value for kind in kinds])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def other_broker_env(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, str]]:
    """The settings of the broker that is not among the servers; empty where no test of this session needs it."""
    kind = other_broker()
    if kind is None or not any(item.get_closest_marker("each_broker") for item in request.session.items):
        yield {}
        return
    async with running_broker(kind, tmp_path_factory.mktemp("broker")) as environment:
        yield environment


@pytest.fixture
def broker_env(
    request: pytest.FixtureRequest, server_env: dict[str, str], other_broker_env: dict[str, str]
) -> dict[str, str]:
    """The settings of the Kafka that a test uses: that of the servers, or, as its parameter says, the other one."""
    return other_broker_env if getattr(request, "param", main_broker()) is other_broker() else {}


@pytest.fixture
def settings(
    server_env: dict[str, str], broker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings with unique names: database, bucket, topics, group, Redis database. None of them exists yet."""
    unique = secrets.token_hex(4)
    for name in [name for name in os.environ if name.startswith("PAGEMILL_")]:
        monkeypatch.delenv(name)
    redis_server, _, _ = server_env["PAGEMILL_REDIS_URL"].rpartition("/")
    own = {
        "PAGEMILL_MONGO_DATABASE": f"test_{unique}",
        "PAGEMILL_S3_BUCKET": f"test-{unique}",
        "PAGEMILL_KAFKA_JOBS_TOPIC": f"test-{unique}.jobs",
        "PAGEMILL_KAFKA_EVENTS_TOPIC": f"test-{unique}.events",
        "PAGEMILL_KAFKA_GROUP": f"test-{unique}",
        "PAGEMILL_KAFKA_PARTITIONS": "3",  # the broker keeps the topics of all tests
        "PAGEMILL_REDIS_URL": f"{redis_server}/{next(_REDIS_DATABASES)}",
    }
    for name, value in {**server_env, **broker_env, **own}.items():
        monkeypatch.setenv(name, value)
    made = Settings()
    with Redis.from_url(made.redis.redis_url) as redis:
        redis.flushdb()
    yield made
    remove_bucket(made.s3)


@pytest.fixture
def collection() -> str:
    """A unique name for a document collection."""
    return f"test_{secrets.token_hex(4)}"


def remove_bucket(s3: S3Settings) -> None:
    """Delete the bucket: each one takes disk volumes of the S3 server, which has few."""
    with urllib3.PoolManager() as pool:  # minio's own pool loads certificates, which takes 30 ms
        client = Minio(
            s3.s3_endpoint,
            s3.s3_access_key,
            s3.s3_secret_key.get_secret_value(),
            secure=False,
            region=s3.s3_region,
            http_client=pool,
        )
        _empty_and_remove(client, s3.s3_bucket)


def _empty_and_remove(client: Minio, bucket: str) -> None:
    if client.bucket_exists(bucket):
        for entry in client.list_objects(bucket, recursive=True):
            client.remove_object(bucket, str(entry.object_name))
        client.remove_bucket(bucket)
