"""`pagemill up --kafka given` on an Apache Kafka with TLS and passwords, and with settings from files."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ingestion.settings import KafkaSettings
from tests.conftest import Up
from tests.support.kafka_rights import named
from tests.support.pdfs import text_pdf
from tests.support.secured_kafka import GROUP, TOPIC, USERS, SecuredKafka
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
DEADLINE_S: Final = 90.0
OWN_SECRET: Final = "of-another-server"


def of_user(secured: SecuredKafka, topics: KafkaSettings, folder: Path, password: str) -> dict[str, str]:
    """The settings of a user who keeps secrets in files, among them secrets of other servers."""
    (folder / "password").write_text(password)
    (folder / "other").write_text(OWN_SECRET)
    others = ("API_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN", "MILVUS_TOKEN", "REDIS_URL", "MONGO_URI", "WORKER_ID")
    return {
        "PAGEMILL_KAFKA_BOOTSTRAP": topics.kafka_bootstrap,
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "PAGEMILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "PAGEMILL_KAFKA_SASL_USERNAME": "pagemill",
        "PAGEMILL_KAFKA_SASL_PASSWORD_FILE": str(folder / "password"),
        "PAGEMILL_KAFKA_SSL_CAFILE": str(secured.folder / "ca.pem"),
        "PAGEMILL_KAFKA_JOBS_TOPIC": topics.kafka_jobs_topic,
        "PAGEMILL_KAFKA_EVENTS_TOPIC": topics.kafka_events_topic,
        "PAGEMILL_KAFKA_GROUP": topics.kafka_group,
        "PAGEMILL_RETRY_DELAYS_S": "10",
        **{f"PAGEMILL_{name}_FILE": str(folder / "other") for name in others},
    }


@contextmanager
def running(data_dir: Path, settings: dict[str, str]) -> Iterator[Up]:
    up = Up(data_dir, "--kafka", "given", "--workers", "1", settings=settings)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            assert up.stop() == 0


def ingest(stack: dict[str, Any]) -> str:
    """Upload a document and return its last state."""
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    with httpx.Client(base_url=f"{stack['api_url']}/api/v1", headers=headers, timeout=60) as client:
        files = [("files", ("good.pdf", text_pdf("pumps and valves")))]
        accepted = client.post("/collections/c/documents", files=files).raise_for_status().json()
        path = f"/documents/{accepted['documents'][0]['document_id']}"

        def ended() -> bool:
            return client.get(path).json()["state"] in ("ready", "failed")

        wait_until(ended, DEADLINE_S)
        return str(client.get(path).json()["state"])


async def test_a_stack_works_on_a_given_kafka_with_a_login(secured: SecuredKafka, tmp_path: Path) -> None:
    topics = named(secured.settings(), f"given.{secrets.token_hex(4)}")
    for topic in topics.topics:
        await secured.allow("pagemill", TOPIC, topic, "Create", "Describe", "Read", "Write")
    await secured.allow("pagemill", GROUP, topics.kafka_group, "Read")
    with running(tmp_path / "data", of_user(secured, topics, tmp_path, USERS["pagemill"])) as up:
        stack = await asyncio.to_thread(up.wait_ready)
        assert (stack["kafka_server"], stack["kafka"]) == ("given", topics.kafka_bootstrap)
        assert "kafka" not in {process["name"] for process in stack["processes"]}
        assert await asyncio.to_thread(ingest, stack) == "ready"
        content = json.dumps(stack)
    logs = [log.read_text(errors="replace") for log in (tmp_path / "data").glob("**/*.log")]
    assert len(logs) > 5
    for text in (content, *logs):
        assert USERS["pagemill"] not in text
        assert OWN_SECRET not in text
    for text in logs:
        assert stack["api_key"] not in text
        assert stack["s3"]["secret_key"] not in text


async def test_a_given_kafka_that_refuses_the_login_ends_the_start_with_one_line(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    topics = named(secured.settings(), "login")
    with running(tmp_path / "data", of_user(secured, topics, tmp_path, "let-me-in")) as up:
        assert await asyncio.to_thread(up.process.wait, DEADLINE_S) == 1
    output = up.output.read_text()
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "does not accept the SCRAM-SHA-256 login: check PAGEMILL_KAFKA_SASL_USERNAME" in errors[0]
    assert "let-me-in" not in output
