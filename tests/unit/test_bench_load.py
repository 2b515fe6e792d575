"""`pagemill bench load` against the API over fake stores, its figures and its PDFs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from typer.testing import CliRunner, Result

from ingestion.api import events
from ingestion.client.client import ApiClient
from ingestion.client.views import DocumentView
from ingestion.errors import DependencyUnavailable
from ingestion.model import DocumentState
from tests.support.fake_api import FakeApi
from tests.support.load_runs import PLAN, a_file, a_sample
from workers.bench.html_page import table
from workers.bench.load import LoadedFile, LoadRun
from workers.bench.load_page import load_page
from workers.bench.load_report import Latency, load_report, pages_per_s
from workers.bench.sample_pdf import sample_pdf
from workers.bench.sampling import beside
from workers.bench.scrape import LAG, Reading, metrics_urls, total
from workers.cli import app
from workers.stack.datadir import DataDir


def load(*options: str) -> Result:
    return CliRunner().invoke(app, ["bench", "load", *options], catch_exceptions=False)


def report_of(result: Result) -> dict[str, Any]:
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


# the command


def test_every_file_is_followed_to_its_end_and_the_collection_is_deleted(api: FakeApi) -> None:
    result = load("--files", "3", "--pages", "1", "--concurrency", "2", "--json")
    report = report_of(result)
    assert result.exit_code == 0
    assert (report["states"], report["failures"], report["all_ready"]) == ({"ready": 3}, {}, True)
    assert report["accepted"]["count"] == report["ready"]["count"] == 3
    assert report["ready"]["p50_s"] >= report["accepted"]["p50_s"] > 0
    assert api.documents == {}


def test_the_collection_of_a_run_stays_with_keep(api: FakeApi) -> None:
    result = load("--files", "2", "--pages", "1", "--keep")
    assert result.exit_code == 0
    (collection,) = {document.collection for document in api.documents.values()}
    assert f"pagemill collections drop {collection}" in " ".join(result.stdout.split())


def test_failures_are_counted_by_code_and_give_exit_status_1(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["bad.pdf", "fails.pdf", "good.pdf"])
    monkeypatch.setattr("workers.bench.load.file_name", lambda number: next(names))
    result = load("--files", "3", "--pages", "1", "--json")
    report = report_of(result)
    assert result.exit_code == 1
    assert report["failures"] == {"not_a_pdf": 1, "page_render_failed": 1}
    assert report["states"] == {"refused": 1, "failed": 1, "ready": 1}


def test_an_answer_with_retry_after_is_counted_and_repeated(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.bench.load.file_name", lambda number: f"busy{number}.pdf")
    result = load("--files", "1", "--pages", "1", "--json")
    report = report_of(result)
    assert (result.exit_code, report["error_answers"], report["states"]) == (0, {"503": 1}, {"ready": 1})
    uploads = [at for method, _, at in api.requests if method == "POST"]
    assert uploads[1] - uploads[0] >= 1, "Retry-After"


def test_a_collection_that_cannot_be_deleted_is_named_and_the_report_stays(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: ApiClient, collection: str) -> None:
        raise DependencyUnavailable("milvus", "no answer")

    monkeypatch.setattr(ApiClient, "delete_collection", fail)
    result = load("--files", "1", "--pages", "1", "--json")
    assert report_of(result)["states"] == {"ready": 1}
    (collection,) = {document.collection for document in api.documents.values()}
    assert f"error: collection {collection} is not deleted" in result.stderr


def test_many_pages_need_a_confirmation(api: FakeApi) -> None:
    result = load("--files", "21", "--pages", "100")
    assert result.exit_code == 1
    assert "2,100 pages" in result.stderr
    assert "--yes" in result.stderr
    assert api.requests == []


def test_an_interrupted_run_cleans_up_and_reports(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    note = LoadRun._note

    def interrupt_at_the_first_event(self: LoadRun, file: LoadedFile, view: DocumentView) -> None:
        note(self, file, view)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LoadRun, "_note", interrupt_at_the_first_event)
    result = load("--files", "30", "--pages", "1", "--concurrency", "1", "--rate", "1", "--json")
    report = report_of(result)
    assert (result.exit_code, report["is_interrupted"]) == (130, True)
    assert sum(report["states"].values()) < 30
    assert api.documents == {}


def test_what_has_not_settled_at_the_time_limit_is_unfinished(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_INTERVAL_S", 60.0)
    result = load("--files", "1", "--pages", "1", "--limit-s", "1", "--json")
    assert result.exit_code == 1
    assert report_of(result)["states"] == {"unfinished": 1}


def test_the_page_stands_alone_and_shows_the_figures(api: FakeApi) -> None:
    result = load("--files", "2", "--pages", "1", "--report", "load.html")
    assert result.exit_code == 0
    text = Path("load.html").read_text()
    assert "2 ready" in text
    assert "<svg" in text
    assert "src=" not in text.replace("xlink:href", "")


def test_a_report_that_cannot_be_written_is_an_error_before_the_run(api: FakeApi) -> None:
    result = load("--files", "1", "--report", "no/such/folder.html")
    assert result.exit_code == 1
    assert "no/such/folder.html cannot be written" in result.stderr
    assert api.requests == []


# figures


def test_latency_counts_from_the_time_at_which_a_file_was_due() -> None:
    report = load_report(
        PLAN,
        [a_file(0), a_file(1), a_file(2, state=DocumentState.FAILED.value, error_code="empty", attempts=2)],
        [a_sample(0, 0, lag=5, rss=10), a_sample(4, 4, lag=1, rss=30)],
        target="here",
        started_at="now",
        duration_s=5,
        is_interrupted=False,
        error_answers={429: 2},
    )
    assert report.accepted == Latency(3, 0.5, 0.5, 0.5, 0.5)
    assert report.ready == Latency(2, 2.0, 2.0, 2.0, 2.0)
    assert report.pages_per_s == 4 / 3
    assert (report.most_lag, report.most_rss_bytes, report.retried_documents) == (5, {"api": 30}, 1)
    assert (report.failures, report.error_answers, report.is_good) == ({"empty": 1}, {"429": 2}, False)


def test_a_run_without_files_or_samples_has_a_page() -> None:
    report = load_report(
        PLAN, [], [], target="here", started_at="now", duration_s=0, is_interrupted=True, error_answers={}
    )
    assert "Interrupted" in load_page(report)


def test_pages_a_second_are_those_of_the_window() -> None:
    samples = [a_sample(0, 0), a_sample(1, 10), a_sample(2, 10), a_sample(3, 40)]
    assert pages_per_s(samples, 2.0) == ([1, 2, 3], [10, 5, 15])


def test_the_lag_is_the_sum_over_processes_and_partitions() -> None:
    readings = [Reading(LAG, {"partition": "0"}, 2), Reading(LAG, {"partition": "1"}, 3), Reading("other", {}, 9)]
    assert (total(readings, LAG), total(readings, "absent")) == (5, None)


def test_a_stack_tells_the_addresses_of_its_metrics() -> None:
    processes = [
        {"name": "s3", "pid": 1, "address": "http://127.0.0.1:1"},
        {"name": "worker-1", "pid": 2, "address": "http://127.0.0.1:2"},
    ]
    assert metrics_urls({"processes": processes}) == ["http://127.0.0.1:2/metrics"]
    assert metrics_urls(None) == []
    assert DataDir(Path("nothing-here")).read_stack() is None


def test_a_cell_of_a_page_is_escaped() -> None:
    assert "&lt;b&gt;" in table(["a"], [["<b>"]])


# PDFs


def test_files_are_unique_and_the_same_seed_gives_the_same_file() -> None:
    assert sample_pdf("a", 3) == sample_pdf("a", 3)
    assert sample_pdf("a", 3).content != sample_pdf("b", 3).content


def test_a_page_has_its_subject_in_its_text_and_every_third_page_a_picture() -> None:
    made = sample_pdf("seed", 6)
    with pypdfium2.PdfDocument(made.content) as pdf:
        assert len(pdf) == len(made.subjects) == 6
        for number, subject in enumerate(made.subjects):
            page = pdf[number]
            assert subject in page.get_textpage().get_text_range()
            kinds = {found.type for found in page.get_objects()}
            assert (pypdfium2.raw.FPDF_PAGEOBJ_IMAGE in kinds) == ((number + 1) % 3 == 0)


async def test_work_beside_a_block_ends_with_it() -> None:
    ends: list[str] = []

    async def watch() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("watch")

    async with beside(watch()):
        await asyncio.sleep(0)
    assert ends == ["watch"]


async def test_an_error_beside_a_block_is_raised_after_it() -> None:
    is_done = False

    async def fail() -> None:
        raise KeyError("unforeseen")

    with pytest.raises(KeyError, match="unforeseen"):
        async with beside(fail()):
            await asyncio.sleep(0.01)
            is_done = True
    assert is_done
