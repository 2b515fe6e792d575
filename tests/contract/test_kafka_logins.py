"""Logins, certificates and rights on an Apache Kafka. Without one these tests are skipped."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any, Final

import pytest

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.dead_letters import KafkaDeadLetters
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics, remove_topics
from ingestion.errors import DependencyRefused, DependencyUnavailable, IngestError
from ingestion.messages import Partition, Record, encode_job
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings
from tests.conftest import clean_environment
from tests.port_contracts.job_queue import letter_of
from tests.support.documents import document
from tests.support.kafka_rights import RIGHTS, allow_rights, named
from tests.support.secured_kafka import TOPIC, SecuredKafka

DEADLINE_S = 30.0
pytestmark = pytest.mark.asyncio(loop_scope="session")


def job() -> IngestJob:
    return IngestJob(secrets.token_hex(8), "a collection", "file.pdf")


async def ignore(partitions: set[Partition]) -> None: ...


async def publish(settings: KafkaSettings) -> None:
    async with KafkaJobQueue(named(settings, "login")) as queue:
        await queue.publish(job())
        await queue.ping()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_a_password_logs_in(secured: SecuredKafka, mechanism: str) -> None:
    await publish(secured.settings(kafka_sasl_mechanism=mechanism))


async def test_a_token_logs_in(secured: SecuredKafka) -> None:
    await publish(secured.oauth("pagemill"))


async def test_a_client_certificate_logs_in(secured: SecuredKafka) -> None:
    await publish(secured.settings("MTLS"))


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_compressed_messages_are_taken(secured: SecuredKafka, compression: str) -> None:
    if compression not in ("none", "gzip"):
        pytest.importorskip("cramjam")
    await publish(secured.settings(kafka_compression=compression, kafka_linger_ms=5, kafka_batch_size_bytes=99_000))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong password": ("LOGIN", {"kafka_sasl_password": "let-me-in"}, "SCRAM-SHA-256 login: check .*SASL_PASSWORD"),
    "wrong password, PLAIN": (
        "LOGIN",
        {"kafka_sasl_password": "let-me-in", "kafka_sasl_mechanism": "PLAIN"},
        "PLAIN login: check .*SASL_PASSWORD",
    ),
    "unknown user": ("LOGIN", {"kafka_sasl_username": "stranger"}, "PAGEMILL_KAFKA_SASL_USERNAME"),
    "wrong mechanism": ("BARELOGIN", {}, "has no SCRAM-SHA-256: change PAGEMILL_KAFKA_SASL_MECHANISM"),
    "untrusted certificate": ("LOGIN", {"kafka_ssl_cafile": "stranger.pem"}, "set PAGEMILL_KAFKA_SSL_CAFILE"),
    "authorities of the system": ("LOGIN", {"kafka_ssl_cafile": None}, "set PAGEMILL_KAFKA_SSL_CAFILE"),
    "expired certificate": ("EXPIRED", {}, "certificate of localhost:[0-9]+ has expired: renew it on that server"),
    "wrong host name": ("OTHERHOST", {}, "for another host .*localhost.*PAGEMILL_KAFKA_BOOTSTRAP"),
    "no client certificate": ("MTLS", {"kafka_ssl_certfile": None}, "PAGEMILL_KAFKA_SSL_CERTFILE"),
    "untrusted client certificate": (
        "MTLS",
        {"kafka_ssl_certfile": "untrusted-client.pem"},
        "PAGEMILL_KAFKA_SSL_CERTFILE",
    ),
}


def refused(secured: SecuredKafka, case: str) -> tuple[KafkaSettings, str]:
    listener, changes, message = REFUSED[case]
    in_folder = {
        name: secured.folder / value if name.endswith("file") and value else value for name, value in changes.items()
    }
    return secured.settings(listener, **in_folder), message


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_names_the_setting(secured: SecuredKafka, case: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, message = refused(secured, case)
    async with KafkaJobQueue(settings) as queue:
        with pytest.raises(DependencyRefused, match=rf"kafka refuses this process: .*{message}") as caught:
            await queue.ping()
    if password := settings.kafka_sasl_password.get_secret_value():
        assert password not in str(caught.value).replace(message, "") + caplog.text


async def test_a_wrong_client_secret_names_the_setting(
    secured: SecuredKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async with KafkaJobQueue(secured.oauth("pagemill", kafka_oauth_client_secret="open-it")) as queue:
        with pytest.raises(DependencyRefused, match=r"401 \(invalid_client\).*PAGEMILL_KAFKA_OAUTH") as caught:
            await queue.ping()
    assert "open-it" not in str(caught.value) + caplog.text


async def test_a_token_endpoint_that_is_down_is_waited_for(secured: SecuredKafka, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/token"
    async with KafkaJobQueue(secured.oauth("pagemill", kafka_oauth_token_url=url)) as queue:
        with pytest.raises(DependencyUnavailable, match="token endpoint") as caught:
            await queue.ping()
    assert not isinstance(caught.value, DependencyRefused)


@pytest.mark.parametrize(
    ("listener", "protocol"), [("LOGIN", "PLAINTEXT"), ("BARELOGIN", "PLAINTEXT"), ("BARELOGIN", "SASL_SSL")]
)
async def test_a_port_of_another_protocol_hints_at_the_setting(
    secured: SecuredKafka, listener: str, protocol: str
) -> None:
    """The broker closes the connection, like a broker that is starting. The client waits for it."""
    settings = secured.settings(listener, kafka_security_protocol=protocol)
    async with KafkaJobQueue(settings) as queue:
        with pytest.raises(DependencyUnavailable, match=f"PAGEMILL_KAFKA_SECURITY_PROTOCOL={protocol} does not fit"):
            await queue.ping()


async def test_consumers_and_admin_clients_name_the_setting_too(secured: SecuredKafka) -> None:
    settings, message = refused(secured, "wrong password")
    with pytest.raises(DependencyRefused, match=message):
        await ensure_topics(settings)
    with pytest.raises(DependencyRefused, match=message):
        await JobConsumer(settings, "a worker").start(ignore, ignore)
    with pytest.raises(DependencyRefused, match=message):
        [letter async for letter in KafkaDeadLetters(settings).read()]


async def test_the_host_name_need_not_fit_where_that_is_turned_off(secured: SecuredKafka) -> None:
    await publish(secured.settings("OTHERHOST", kafka_ssl_check_hostname=False))


COLUMNS: Final = ("{jobs}", "{retries}", "{dead letters}", "{events}", "group")
ROWS: Final = {
    "api": "API",
    "worker": "worker",
    "janitor": "janitor",
    "dlq": "`pagemill dlq`",
    "ensure": "`pagemill topics ensure`",
}


async def test_the_documentation_has_these_rights() -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8").splitlines()
    for process, title in ROWS.items():
        rights = RIGHTS[process]
        everywhere = rights.get("{all}", ())
        cells = [", ".join(rights.get(name, everywhere if name != "group" else ())) for name in COLUMNS]
        assert re.sub(" +", " ", f"| {title} | {' | '.join(cells)} |") in page


async def test_each_process_needs_only_its_rights(secured: SecuredKafka) -> None:
    prefix = f"rights-{secrets.token_hex(4)}"
    users = {process: named(secured.settings(user=process), prefix) for process in RIGHTS}
    for process, settings in users.items():
        await allow_rights(secured, settings, process)
    await ensure_topics(users["ensure"])
    wanted, ready = job(), document()
    record = Record((users["api"].kafka_jobs_topic, 0), 0, *encode_job(wanted))
    letter = letter_of(record)
    async with KafkaJobQueue(users["api"]) as queue:
        await queue.ping()
        await queue.publish(wanted)
        await queue.announce(ready)
    async with KafkaJobQueue(users["worker"]) as queue:
        await queue.ping()
        await queue.retry(record, 10)
        await queue.publish_dead_letter(letter)
        await queue.announce(ready)
    consumer = JobConsumer(users["worker"], "a worker")
    await consumer.start(ignore, ignore)
    try:
        async with asyncio.timeout(DEADLINE_S):
            found: list[Record] = []
            while len(found) < 2:
                found += await consumer.poll(10, 200)
            await consumer.commit({one.partition: one.offset + 1 for one in found})
    finally:
        await consumer.stop()
    async with KafkaJobQueue(users["janitor"]) as queue:
        await queue.ping()
        await queue.publish(wanted)
        await queue.publish_dead_letter(letter)
        await queue.announce(ready)
    letters = [one async for one in KafkaDeadLetters(users["dlq"]).read()]
    async with KafkaJobQueue(users["dlq"]) as queue:
        await queue.replay(letters[0])


async def test_a_missing_right_is_named(secured: SecuredKafka) -> None:
    settings = named(secured.settings(user="unlisted"), "login")
    await secured.allow("unlisted", TOPIC, "login.events", "Write")
    async with KafkaJobQueue(settings) as queue:
        with pytest.raises(DependencyRefused, match=r"no right on a topic \(login.jobs\)"):
            await queue.publish(job())
    with pytest.raises(DependencyRefused, match=r"no right on a topic .*login"):
        [letter async for letter in KafkaDeadLetters(settings).read()]
    with pytest.raises(DependencyRefused, match="deleting topic login"):
        await remove_topics(settings)
    with pytest.raises(DependencyRefused, match="creating topic"):
        await ensure_topics(named(secured.settings(user="unlisted"), f"new-{secrets.token_hex(4)}"))


async def test_a_member_without_a_right_on_the_group_is_named(secured: SecuredKafka) -> None:
    await secured.allow("unlisted", TOPIC, "login.jobs", "Read")
    await secured.allow("unlisted", TOPIC, "login.jobs-retry-10000", "Read")
    consumer = JobConsumer(named(secured.settings(user="unlisted"), "login"), "a worker")
    await consumer.start(ignore, ignore)
    try:
        with pytest.raises(IngestError, match=r"GroupAuthorizationFailed|no right on a consumer group"):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await consumer.poll(10, 200)
    finally:
        await consumer.stop()


async def test_a_process_that_the_broker_refuses_ends_with_one_message(secured: SecuredKafka) -> None:
    environment = clean_environment() | {
        "PAGEMILL_KAFKA_BOOTSTRAP": f"localhost:{secured.ports['LOGIN']}",
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "PAGEMILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "PAGEMILL_KAFKA_SASL_USERNAME": "pagemill",
        "PAGEMILL_KAFKA_SASL_PASSWORD_FILE": str(secured.folder / "password"),
        "PAGEMILL_KAFKA_SSL_CAFILE": str(secured.folder / "ca.pem"),
        "PAGEMILL_LOG_FORMAT": "json",
    }
    (secured.folder / "password").write_text("let-me-in\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.cli", "serve", "janitor"), env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 2 * DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
    lines = output.decode().splitlines()
    assert process.returncode == 1
    assert [line for line in lines if line.startswith("error:")] == [
        f"error: kafka refuses this process: localhost:{secured.ports['LOGIN']} does not accept the SCRAM-SHA-256 "
        "login: check PAGEMILL_KAFKA_SASL_USERNAME and PAGEMILL_KAFKA_SASL_PASSWORD"
    ]
    assert "let-me-in" not in output.decode()
