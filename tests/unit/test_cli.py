"""The errors of all commands."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from ingestion.errors import DependencyUnavailable
from workers import cli

_RUNNER = CliRunner()


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `pagemill topics ensure` end in `error`."""

    async def fail(settings: object) -> None:
        raise error

    monkeypatch.setattr("ingestion.prepare.prepare", fail)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("PAGEMILL_LOG_LEVEL", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DependencyUnavailable("kafka", "refused"), "error: kafka is unavailable: refused\n"),
        (httpx.ConnectError("connection refused"), "error: connection refused\n"),
        (httpx.ReadTimeout(""), "error: ReadTimeout\n"),
    ],
)
def test_an_expected_error_is_one_line_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    _failing(monkeypatch, error)
    result = _RUNNER.invoke(cli.app, ["topics", "ensure"])
    assert (result.exit_code, result.stderr) == (1, line)


def test_debugging_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_LOG_LEVEL", "debug")
    _failing(monkeypatch, DependencyUnavailable("kafka", "refused"))
    result = _RUNNER.invoke(cli.app, ["topics", "ensure"])
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("error: kafka is unavailable: refused\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, ZeroDivisionError())
    assert isinstance(_RUNNER.invoke(cli.app, ["topics", "ensure"]).exception, ZeroDivisionError)


def test_an_interrupt_is_exit_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert _RUNNER.invoke(cli.app, ["topics", "ensure"]).exit_code == 130


def test_an_embedding_service_of_another_services_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_EMBEDDER", "remote")
    monkeypatch.setattr("workers.commands.serve.configure", lambda settings: None)  # logging is this process's
    result = _RUNNER.invoke(cli.app, ["serve", "embedder"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: an embedding service needs a model of its own: set PAGEMILL_EMBEDDER to local or visual\n"
    )


def test_a_setting_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_API_PORT", "zero")
    result = _RUNNER.invoke(cli.app, ["topics", "ensure"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: PAGEMILL_API_PORT: Input should be a valid integer")


@pytest.mark.parametrize("process", ["api", "embedder", "worker", "janitor"])
def test_each_process_runs_in_a_scratch_folder_of_its_own(
    process: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next process counts those that were killed by their folders: see PagemillProcessDied."""
    folders: list[str] = []

    async def run(*_: object) -> None:
        folders.append(tempfile.gettempdir())

    monkeypatch.setenv("PAGEMILL_API_KEY", "k")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("workers.commands.serve.configure", lambda settings: None)  # logging is this process's
    monkeypatch.setattr(f"workers.commands.serve._{process}", run)
    for name in ("limit_blas_threads", "configure_malloc"):
        monkeypatch.setattr(f"workers.commands.serve.{name}", lambda: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda seconds: None)
    result = _RUNNER.invoke(cli.app, ["serve", process], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [Path(folder).parents[1] for folder in folders] == [tmp_path]
