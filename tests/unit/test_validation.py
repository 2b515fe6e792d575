"""The checklist of `pagemill validate`: its run, its reports, and what single items judge."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from typer.testing import CliRunner

from ingestion.client.client import ApiClient
from ingestion.client.target import Target
from ingestion.errors import BadRequest, DependencyUnavailable
from ingestion.hits import Hit
from tests.support.load_runs import PLAN, a_file, a_sample
from workers.bench.load_report import load_report
from workers.bench.scrape import Reading
from workers.cli import app
from workers.commands.validation import ValidationRequest, chosen_items
from workers.validation import faults, load, monitoring, periodic
from workers.validation.checklist import (
    BEFORE_PRODUCTION,
    MONTHLY,
    WEEKLY,
    ItemResult,
    interrupted,
    is_good,
    run_checklist,
)
from workers.validation.context import Context, Limits
from workers.validation.finding import Finding, Item, ItemStatus, failed, passed, skipped
from workers.validation.logs import judge_logs
from workers.validation.proxy import NetworkFault, Proxy
from workers.validation.recall import recall
from workers.validation.report_page import report_page

STARTED_AT = "2026-01-01T00:00:00+00:00"


def context(folder: Path, answers: Callable[[httpx.Request], httpx.Response] | None = None, **changes: Any) -> Context:
    made = Context(
        api=cast(ApiClient, None),
        target=Target("http://pagemill", "key", "", is_local=False),
        http=httpx.AsyncClient(transport=httpx.MockTransport(answers or (lambda _: httpx.Response(404)))),
        collection="validate",
        folder=folder,
        limits=Limits(),
        services=None,
        no_services="MongoDB does not answer",
        read_stack=lambda: None,
        data_dir=folder,
    )
    return replace(made, **changes)


async def good(_: Context) -> Finding:
    return passed("it works", pages=3)


async def crashing(_: Context) -> Finding:
    raise DependencyUnavailable("milvus", "no answer")


async def crashing_together(_: Context) -> Finding:
    raise ExceptionGroup("tasks", [ValueError("bad <number>")])


ITEMS = [Item("crash", "?", crashing), Item("group", "?", crashing_together), Item("good", "Good?", good)]


async def run(items: list[Item], folder: Path) -> list[ItemResult]:
    results: list[ItemResult] = []
    await run_checklist(items, context(folder), results, lambda item: None)
    return results


# the run


async def test_an_item_that_crashes_has_failed_with_its_error_and_the_others_run(tmp_path: Path) -> None:
    results = await run(ITEMS, tmp_path)
    assert [result.finding.status for result in results] == [ItemStatus.FAILED, ItemStatus.FAILED, ItemStatus.PASSED]
    assert "milvus" in results[0].finding.reason
    assert results[1].finding.reason == "ValueError: bad <number>"
    assert not is_good(results)


async def test_skipped_items_are_no_failure(tmp_path: Path) -> None:
    results = await run([ITEMS[2]], tmp_path)
    assert is_good([*results, *interrupted(ITEMS[1:], [])])
    assert [one.finding.status for one in interrupted(ITEMS, results)] == [ItemStatus.SKIPPED, ItemStatus.SKIPPED]


async def test_results_are_written_as_json_and_as_an_escaped_page(tmp_path: Path) -> None:
    results = await run(ITEMS, tmp_path)
    shown = json.loads(json.dumps([result.as_json() for result in results]))
    assert (shown[2]["status"], shown[2]["evidence"], shown[2]["name"]) == ("passed", {"pages": 3}, "good")
    page = report_page(results, target="http://here", started_at=STARTED_AT)
    assert "2 failed, 1 passed" in page
    assert "bad &lt;number&gt;" in page


def test_names_of_items_are_unique_and_listed() -> None:
    names = [item.name for item in (*BEFORE_PRODUCTION, *WEEKLY, *MONTHLY)]
    assert len(set(names)) == len(names)
    listed = CliRunner().invoke(app, ["validate", "--list"]).stdout
    assert all(name in listed for name in names)


def test_options_choose_the_items() -> None:
    request = ValidationRequest(Limits(), [], False, False, [], None, None, None, False, None, None, None)
    assert chosen_items(request) == BEFORE_PRODUCTION
    assert chosen_items(replace(request, weekly=True, monthly=True)) == (*WEEKLY, *MONTHLY)
    assert [item.name for item in chosen_items(replace(request, only=["disk", "load"]))] == ["disk", "load"]
    with pytest.raises(BadRequest, match="no item is called 'lod'"):
        chosen_items(replace(request, only=["lod"]))


# items


def test_the_load_item_names_each_limit_that_is_passed() -> None:
    files = [a_file(0), a_file(1, state="failed", error_code="empty")]
    report = load_report(
        PLAN,
        files,
        [a_sample(0, 0, lag=50, rss=5000)],
        target="",
        started_at="",
        duration_s=1,
        is_interrupted=False,
        error_answers={},
    )
    problems = "; ".join(load.problems_of(report, Limits(pages_per_s=100, lag=10, memory_bytes=1000)))
    assert "not all files became ready: {'ready': 1, 'failed': 1}, {'empty': 1}" in problems
    assert "fewer than 100" in problems
    assert "a lag of 50 records is above 10" in problems
    assert "api held" in problems
    all_ready = replace(report, states={"ready": PLAN.files})
    assert load.problems_of(all_ready, Limits(pages_per_s=0.1, lag=50, memory_bytes=5000)) == []


def hit(page: int, score: float) -> Hit:
    return Hit(document_id="d", filename="f", page=page, score=score, image_url="", snippet="")


def test_recall_counts_pages_of_the_same_score_as_right() -> None:
    exact = [hit(1, 9.0), hit(2, 8.0)]
    assert recall(exact, exact) == 1.0
    assert recall(exact, [hit(1, 9.0), hit(3, 8.0)]) == 1.0
    assert recall(exact, [hit(1, 9.0), hit(3, 7.0)]) == 0.5
    assert recall(exact, []) == 0.0


async def test_items_that_need_an_address_are_skipped_without_it(tmp_path: Path) -> None:
    for check in (monitoring.metrics_scraped, monitoring.alerts_loaded, monitoring.dashboards_found):
        finding = await check(context(tmp_path))
        assert (finding.status, "give --" in finding.reason) == (ItemStatus.SKIPPED, True)


async def test_a_target_that_is_down_and_a_job_that_is_missing_are_named(tmp_path: Path) -> None:
    target = {"labels": {"job": "api"}, "scrapeUrl": "http://api", "health": "down", "lastError": "refused"}
    at = context(
        tmp_path,
        lambda _: httpx.Response(200, json={"data": {"activeTargets": [target]}}),
        prometheus="http://prometheus",
    )
    finding = await monitoring.metrics_scraped(at)
    assert finding.reason == "not scraped: http://api: refused; no target of the job 'worker'"


async def test_alerts_are_compared_with_the_rule_file(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text("  - alert: PagemillOne\n  - alert: PagemillTwo\n")
    rule = {"name": "PagemillOne", "health": "ok", "state": "firing"}
    answer = {"data": {"groups": [{"rules": [rule]}]}}
    at = context(tmp_path, lambda _: httpx.Response(200, json=answer), prometheus="http://prometheus")
    loaded = await monitoring.alerts_loaded(at)
    assert (loaded.status, loaded.evidence["firing"]) == (ItemStatus.PASSED, "PagemillOne")
    compared = await monitoring.alerts_loaded(replace(at, alerts=tmp_path / "alerts.yml"))
    assert compared.reason == "PagemillTwo is not loaded"


async def test_dashboards_are_found_by_their_title(tmp_path: Path) -> None:
    found = context(tmp_path, lambda _: httpx.Response(200, json=[{"title": "Pagemill"}]), grafana="http://g")
    assert (await monitoring.dashboards_found(found)).status is ItemStatus.PASSED
    empty = context(tmp_path, lambda _: httpx.Response(200, json=[]), grafana="http://g")
    assert (await monitoring.dashboards_found(empty)).status is ItemStatus.FAILED


async def test_a_name_that_no_process_serves_fails_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "SERVED_WITHIN_S", 0.0)
    serving = context(tmp_path, lambda _: httpx.Response(200, text="http_connections 1\nsearches_admitted_total 1\n"))
    assert (await monitoring.metrics_served(serving)).status is ItemStatus.PASSED
    lacking = context(tmp_path, lambda _: httpx.Response(200, text="other 1\n"))
    assert "no process serves http_connections" in (await monitoring.metrics_served(lacking)).reason


def test_a_log_line_that_is_not_json_is_shown(tmp_path: Path) -> None:
    line = json.dumps({"event": "ready", "level": "info", "timestamp": "now"})
    (tmp_path / "api.log").write_text(f"{line}\n{line}\n")
    (tmp_path / "mongo.log").write_text("a server's own form\n")
    assert judge_logs(tmp_path).status is ItemStatus.PASSED
    (tmp_path / "worker-1.log").write_text(f"{line}\nTraceback: it broke\n")
    finding = judge_logs(tmp_path)
    assert finding.status is ItemStatus.FAILED
    assert "Traceback: it broke" in finding.reason


def test_hot_gpus_and_memory_errors_are_failures() -> None:
    assert periodic.judge_gpus("NVIDIA L4, 50, 100, 23034, 0\n").status is ItemStatus.PASSED
    finding = periodic.judge_gpus("NVIDIA L4, 91, 100, 23034, 2\nNVIDIA L4, 40, 1, 23034, [N/A]\n")
    assert finding.reason == "GPU 0 has 91 °C, more than 85; GPU 0 has 2 uncorrected memory errors"
    assert periodic.judge_gpus("").status is ItemStatus.SKIPPED


def test_batches_that_did_not_fit_give_a_hint() -> None:
    def readings(**values: float) -> list[Reading]:
        base = {"embedder_batch_items_count": 4, "embedder_batch_items_sum": 8, "embedder_batch_patches_sum": 3000}
        return [Reading(name, {}, value) for name, value in {**base, **values}.items()]

    assert periodic.judge_batches(readings(embedder_batch_budget_patches=1000)).reason == "keep it"
    small = periodic.judge_batches(readings(embedder_batch_budget_patches=12_000))
    assert "more documents in flight" in small.reason
    full = periodic.judge_batches(readings(embedder_batch_budget_patches=500, embedder_out_of_memory_total=2))
    assert full.reason == "2 batches did not fit: lower PAGEMILL_EMBED_BATCH_PATCHES to 500"


async def test_faults_are_skipped_on_a_system_that_is_not_local(tmp_path: Path) -> None:
    without_stores = await faults.milvus_cut_off(context(tmp_path))
    assert without_stores == skipped("the servers cannot be reached from here: MongoDB does not answer")
    foreign = await faults.disk_full(context(tmp_path, services=cast(Any, object())))
    assert "--destructive" in foreign.reason


# the proxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def asked(address: str, data: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        return await reader.read(200)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_proxy_passes_refuses_and_fills_the_disk() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = await asyncio.start_server(echo, sock=listener)
        async with Proxy(f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
            assert await asked(proxy.address, b"GET /") == b"GET /"
            await proxy.impose(NetworkFault.DISK_FULL)
            assert (await asked(proxy.address, b"PUT /key")).startswith(b"HTTP/1.1 507")
            assert await asked(proxy.address, b"GET /key") == b"GET /key"
            await proxy.impose(NetworkFault.REFUSED)
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asked(proxy.address, b"GET /")
            await proxy.impose(NetworkFault.NONE)
            assert await asked(proxy.address, b"GET /") == b"GET /"
        server.close()


def test_failed_and_passed_tell_their_evidence() -> None:
    assert failed("no", pages=1).evidence == passed("yes", pages=1).evidence == {"pages": 1}
