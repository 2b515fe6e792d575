"""A real Prometheus scrapes a real stack under a little load: dashboards have data, alerts fire when provoked."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
import yaml
from aiokafka import AIOKafkaProducer

from tests.support.composefile import ROOT
from tests.support.prometheus_server import ALERTS, IS_INSTALLED, Prometheus, running_prometheus, targets_of
from tests.support.uploads import make_upload
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not IS_INSTALLED, reason="prometheus is not installed (apt-get install prometheus)"),
]

DASHBOARD: Final = json.loads((ROOT / "deploy/grafana/dashboards/pagemill.json").read_text())
PANELS: Final = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]
RULES: Final = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
EMPTY_PANELS: Final = {
    "GPU memory": "this machine has no GPU",
    "GPU utilisation": "this machine has no GPU",
    "Retries": "no attempt was retried",
    "Repairs by the janitor": "nothing crashed",
    "Audit findings": "the first audit comes after an hour",
}
"""Panels that may be empty on a healthy local stack, and why."""
NOISY_ALERTS: Final = {"PagemillProcessDied": "another stack of this machine may have been killed before"}
READY_S: Final = 120.0


@pytest.fixture(scope="module")
def loaded(stack: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen uploads, one of them refused, and searches."""
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), targets_of(stack)) as prometheus:
        wait_until(lambda: len(prometheus.query("up == 1")) == len(targets_of(stack)), READY_S)
        _load(stack)
        # A series that was not there before shows no increase: the second load shows it.
        wait_until(lambda: prometheus.query("sum(search_code_cache_total) > 0"), READY_S)
        _load(stack)
        # The gauges of documents and rows are measured at intervals.
        wait_until(lambda: prometheus.query('max(ingestion_documents{state="ready"}) >= 3'), READY_S)
        wait_until(lambda: prometheus.query("max(milvus_collection_entities) > 0"), READY_S)
        yield prometheus


def _load(stack: dict[str, Any]) -> None:
    collection = f"monitored_{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    with httpx.Client(base_url=f"{stack['api_url']}/api/v1", headers=headers, timeout=60) as api:
        files = [("files", (f"{pages}.pdf", make_upload(pages))) for pages in (1, 2, 3)]
        accepted = api.post(f"/collections/{collection}/documents", files=files).raise_for_status().json()
        refused = api.post(f"/collections/{collection}/documents", files={"files": ("a.pdf", b"no PDF at all")})
        assert refused.is_client_error
        ids = [document["document_id"] for document in accepted["documents"]]
        wait_until(lambda: all(api.get(f"/documents/{id_}").json()["state"] == "ready" for id_ in ids), READY_S)
        for query in ("a page", "a page", "another page"):
            api.post(f"/collections/{collection}/search", json={"query": query, "top_k": 3}).raise_for_status()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process and its children stand still during the block."""
    process = psutil.Process(pid)
    whole = [process, *process.children(recursive=True)]
    for one in whole:
        one.suspend()
    try:
        yield
    finally:
        for one in whole:
            one.resume()


def _pid(stack: dict[str, Any], name: str) -> int:
    return next(int(process["pid"]) for process in stack["processes"] if process["name"] == name)


def test_every_panel_shows_data_under_load(loaded: Prometheus) -> None:
    def without_data() -> dict[str, str]:
        queries = ((title, expression.replace("$__rate_interval", "5m")) for title, expression in PANELS)
        return {title: one for title, one in queries if title not in EMPTY_PANELS and not loaded.query(one)}

    with suppress(AssertionError):
        wait_until(lambda: not without_data(), 30)
    assert without_data() == {}
    assert EMPTY_PANELS.keys() <= {title for title, _ in PANELS}


def test_the_panels_that_may_be_empty_are_valid(loaded: Prometheus) -> None:
    for title, expression in PANELS:
        if title in EMPTY_PANELS:
            loaded.query(expression.replace("$__rate_interval", "5m"))


def test_no_alert_fires_on_a_healthy_stack_although_none_waits(loaded: Prometheus) -> None:
    for rule in RULES:
        loaded.query(rule["expr"])  # Prometheus accepts it
    assert {labels["alertname"] for labels in loaded.firing()} <= NOISY_ALERTS.keys()


def test_no_label_has_the_id_of_a_document_and_no_process_has_many_series(loaded: Prometheus) -> None:
    ids = '{__name__=~"..+", %s=~".*[0-9a-f]{32}.*"}'
    labels = {label for sample in loaded.query('{job!=""}') for label in sample.labels}
    assert labels
    assert {label: found for label in labels if (found := loaded.query(ids % label))} == {}
    for sample in loaded.query("scrape_samples_scraped"):
        assert sample.value < 2_000, sample.labels


def test_a_dead_letter_alarms(loaded: Prometheus, stack: dict[str, Any]) -> None:
    async def publish() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=stack["kafka"])
        await producer.start()
        try:
            await producer.send_and_wait("pagemill.jobs", b"no job")
        finally:
            await producer.stop()

    asyncio.run(publish())
    loaded.wait_firing("PagemillDeadLetters")


def test_a_worker_that_does_not_answer_alarms_and_is_the_last_one(loaded: Prometheus, stack: dict[str, Any]) -> None:
    with stopped(_pid(stack, "worker-1")):
        loaded.wait_firing("PagemillTargetDown", job="worker")
        loaded.wait_firing("PagemillNoWorkers")
    wait_until(lambda: not loaded.query('up{job="worker"} == 0'), READY_S)


def test_requests_to_every_store_are_measured(loaded: Prometheus) -> None:
    measured = loaded.query("sum by (store) (store_request_duration_seconds_count)")
    assert {sample.labels["store"] for sample in measured} == {"mongodb", "s3", "milvus", "kafka", "redis"}
    assert not loaded.query('store_request_duration_seconds_count{store=~"s3|milvus", operation="other"}')


def test_each_server_of_a_worker_has_a_breaker_before_its_first_outage(loaded: Prometheus) -> None:
    shown = {sample.labels["dependency"] for sample in loaded.query('ingestion_breaker_open{job="worker"}')}
    assert shown == {"mongodb", "s3", "milvus", "kafka", "redis"}  # its embedder is in the worker itself


def test_a_server_that_does_not_answer_alarms_until_it_does(loaded: Prometheus, stack: dict[str, Any]) -> None:
    with stopped(_pid(stack, "redis")):
        loaded.wait_firing("PagemillWaitsForServer", dependency="redis")
    wait_until(lambda: not loaded.query('ingestion_breaker_open{dependency="redis"} == 1'), READY_S)


PROCESS: Final = """
import asyncio, sys, time
from pathlib import Path
from ingestion.scratch import own_scratch
from workers.runtime.health import Health, HealthServer
from workers.runtime.watchdog import watch

async def main():
    began = time.monotonic()
    watching = asyncio.create_task(watch(lambda: began if sys.argv[2] == "hang" else time.monotonic(), 0.5))
    await watching

with own_scratch(Path(sys.argv[1])):
    server = HealthServer("127.0.0.1", 0, lambda: Health(True, []))
    print(server.port, flush=True)
    asyncio.run(main())
"""


def test_a_process_whose_watchdog_ended_it_alarms_once_the_next_one_runs(loaded: Prometheus, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    hung = subprocess.run([*command, "hang"], capture_output=True, text=True, timeout=60, check=False)
    assert hung.returncode == 1
    assert "Timeout" in hung.stderr
    with subprocess.Popen([*command, "work"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = f"127.0.0.1:{process.stdout.readline().strip()}"
            loaded.add_target("worker", address)
            loaded.wait_firing("PagemillProcessDied", instance=address)
        finally:
            os.kill(process.pid, signal.SIGKILL)
