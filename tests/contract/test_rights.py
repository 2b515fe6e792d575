"""Each process with the smallest rights of docs/security.md on Kafka and Redis; its outputs show no secret."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis

from ingestion.settings import Settings
from tests.chaos.documents import broken
from tests.conftest import clean_environment
from tests.support.kafka_rights import RIGHTS, allow_rights, named
from tests.support.pdfs import text_pdf
from tests.support.ports import free_port
from tests.support.redis_rights import RIGHTS as REDIS_RIGHTS
from tests.support.secured_kafka import USERS, SecuredKafka

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
DEADLINE_S: Final = 90.0
REDIS_PASSWORD: Final = "redis-sesame"
API_KEY: Final = "api-sesame"


class Installation:
    """The processes of one installation, each with a user of its own on Kafka."""

    def __init__(self, common: dict[str, str], folder: Path) -> None:
        self.common = common
        self.folder = folder
        self.urls: dict[str, str] = {}

    def environment(self, user: str) -> dict[str, str]:
        """The password comes from a file, as containers mount it."""
        password = self.folder / f"{user}.password"
        password.write_text(USERS[user])
        login = {"PAGEMILL_KAFKA_SASL_USERNAME": user, "PAGEMILL_KAFKA_SASL_PASSWORD_FILE": str(password)}
        return clean_environment() | self.common | login

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @asynccontextmanager
    async def serving(self, name: str, user: str, **settings: str) -> AsyncIterator[Process]:
        with self.log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "workers.cli", "serve", name),
                env=self.environment(user) | settings,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), DEADLINE_S)

    async def run(self, user: str, *arguments: str, **settings: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", *arguments),
            env=self.environment(user) | settings,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=self.folder,
        )
        output = (await asyncio.wait_for(process.communicate(), DEADLINE_S))[0].decode()
        self.log(arguments[0]).open("a").write(output)
        assert process.returncode == 0, output
        return output


@pytest.fixture
async def installation(
    secured: SecuredKafka, settings: Settings, tmp_path: Path, server_env: dict[str, str]
) -> AsyncIterator[Installation]:
    prefix = f"team.{secrets.token_hex(4)}"
    topics = named(secured.settings(), prefix)
    for process in RIGHTS:
        await allow_rights(secured, topics, process)
    at, user = urlsplit(settings.redis.redis_url), f"user-{secrets.token_hex(4)}"
    names = {name: os.environ[name] for name in ("PAGEMILL_MONGO_DATABASE", "PAGEMILL_S3_BUCKET")}
    api, embedder = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    common = {
        **server_env,
        **names,
        "PAGEMILL_KAFKA_BOOTSTRAP": topics.kafka_bootstrap,
        "PAGEMILL_KAFKA_STAND_IN": "false",
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "PAGEMILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "PAGEMILL_KAFKA_SSL_CAFILE": str(secured.folder / "ca.pem"),
        "PAGEMILL_KAFKA_JOBS_TOPIC": topics.kafka_jobs_topic,
        "PAGEMILL_KAFKA_EVENTS_TOPIC": topics.kafka_events_topic,
        "PAGEMILL_KAFKA_GROUP": topics.kafka_group,
        "PAGEMILL_KAFKA_PARTITIONS": "2",
        "PAGEMILL_RETRY_DELAYS_S": "10",
        "PAGEMILL_REDIS_URL": f"redis://{user}:{REDIS_PASSWORD}@{at.netloc}{at.path}",
        "PAGEMILL_S3_PREFIX": f"{prefix}/",
        "PAGEMILL_MILVUS_COLLECTION_PREFIX": f"team_{secrets.token_hex(4)}",
        "PAGEMILL_API_KEY": API_KEY,
        "PAGEMILL_API_PORT": api.rpartition(":")[2],
        "PAGEMILL_EMBEDDER_PORT": embedder.rpartition(":")[2],
        "PAGEMILL_EMBEDDER_URL": embedder,
        "PAGEMILL_LOG_LEVEL": "debug",
    }
    made = Installation(common, tmp_path)
    made.urls = {"api": api, "embedder": embedder}
    with Redis.from_url(settings.redis.redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", user, "on", f">{REDIS_PASSWORD}", *REDIS_RIGHTS.split())
        yield made
        admin.execute_command("ACL", "DELUSER", user)


async def eventually(client: httpx.AsyncClient, path: str, *wanted: str) -> str:
    """Wait until the state of the document is one of `wanted`, and return it."""
    async with asyncio.timeout(DEADLINE_S):
        while (state := (await client.get(path)).json().get("state")) not in wanted:
            await asyncio.sleep(0.2)
    return str(state)


async def until_ready(url: str, process: Process, log: Path) -> str:
    """Wait until the process is ready, and return its answer."""
    async with httpx.AsyncClient() as client, asyncio.timeout(DEADLINE_S):
        while True:
            assert process.returncode is None, log.read_text()[-3000:]
            try:
                if (answer := await client.get(f"{url}/ready")).status_code == 200:
                    return answer.text
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


def titles(processes: list[Process]) -> str:
    return "".join(Path(f"/proc/{process.pid}/cmdline").read_text() for process in processes)


async def test_each_process_needs_only_its_rights_and_shows_no_secret(installation: Installation) -> None:
    await installation.run("ensure", "topics", "ensure", PAGEMILL_KAFKA_PARTITIONS="1")
    migrated = await installation.run("migrate", "migrate")
    assert migrated.count("done  add partitions to the topic") == 2, "those of jobs and of retries"
    local = {"PAGEMILL_EMBEDDER": "local"}
    remote = {"PAGEMILL_EMBEDDER": "remote"}
    shown = ""
    async with AsyncExitStack() as stack:
        running = []
        for name, user, own in (
            ("embedder", "unlisted", local),
            ("api", "api", remote),
            ("worker", "worker", remote),
            ("janitor", "janitor", remote),
        ):
            port = free_port()
            url = installation.urls.get(name, f"http://127.0.0.1:{port}")
            at = {"PAGEMILL_WORKER_METRICS_PORT": str(port)}
            process = await stack.enter_async_context(installation.serving(name, user, **own, **at))
            running.append(process)
            shown += await until_ready(url, process, installation.log(name))
        shown += titles(running)
        headers = {"Authorization": f"Bearer {API_KEY}"}
        api = f"{installation.urls['api']}/api/v1"
        async with httpx.AsyncClient(base_url=api, headers=headers, timeout=60) as client:
            uploads = {"good.pdf": text_pdf("pumps and valves"), "bad.pdf": broken("bad").content}
            files = [("files", upload) for upload in uploads.items()]
            answer = (await client.post("/collections/c/documents", files=files)).json()
            good, *bad = [one["document_id"] for one in answer["documents"]]
            assert await eventually(client, f"/documents/{good}", "ready", "failed") == "ready"
            for _ in range(2):
                found = await client.post("/collections/c/search", json={"query": "pumps"})
                assert [hit["document_id"] for hit in found.json()["hits"]] == [good]
            for failed in bad:
                assert await eventually(client, f"/documents/{failed}", "ready", "failed") == "failed"
                assert failed in await installation.run("dlq", "dlq", "list", "--json")
                await installation.run("dlq", "dlq", "replay", failed)
                assert await eventually(client, f"/documents/{failed}", "ready", "failed") == "failed"
            assert (await client.delete(f"/documents/{good}")).is_success
            await client.delete("/collections/c")
    outputs = {log.name: log.read_text() for log in installation.folder.glob("*.log")} | {"answers": shown}
    for name, text in outputs.items():
        for secret in (*USERS.values(), REDIS_PASSWORD, API_KEY, installation.common["PAGEMILL_S3_SECRET_KEY"]):
            assert secret not in text, f"{name} shows {secret}"
        assert "refuses this process" not in text, name
        assert "Authorization" not in text, name
