"""What a process says at its start where settings are wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingestion.settings import SECTIONS, ConfigurationError, Settings, old_variables, unknown_variables
from ingestion.settings.report import example_of
from workers import cli
from workers.commands.doctor.checks import check_settings


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_wrong_settings_of_all_sections_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = {
        "PAGEMILL_API_PORT": "zero",
        "PAGEMILL_INDEX_TYPE": "FLAT",
        "PAGEMILL_S3_PREFIX": "no-slash",
        "PAGEMILL_HNSW_M": "0",
        "PAGEMILL_OTLP_ENDPOINT": "collector:4318",
        "PAGEMILL_REDIS_URL_FILE": str(tmp_path / "missing"),
        "PAGEMILL_S3_SECRET_KEY_FILE": str(tmp_path / "missing too"),
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings("api")
    lines = str(caught.value).splitlines()
    assert lines[0] == "10 settings are wrong:"
    assert sorted(line.split(":")[0].split(" ")[2] for line in lines[1:]) == sorted(
        {*wrong, "PAGEMILL_API_KEY", "PAGEMILL_KAFKA_SASL_USERNAME", "PAGEMILL_KAFKA_SASL_PASSWORD"}
        - {"PAGEMILL_KAFKA_SECURITY_PROTOCOL"}
    )
    assert (
        "  PAGEMILL_API_PORT: Input should be a valid integer, unable to parse string as an integer."
        " Example: PAGEMILL_API_PORT=8090"
    ) in lines
    assert "  PAGEMILL_KAFKA_SASL_PASSWORD is needed for SCRAM-SHA-512. Example: PAGEMILL_KAFKA_SASL_PASSWORD=..." in (
        lines
    )


@pytest.mark.parametrize("is_file", [False, True])
def test_a_secret_that_is_set_is_not_missed_where_another_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_file: bool
) -> None:
    (tmp_path / "key").write_text("secret")
    monkeypatch.delenv("PAGEMILL_API_KEY", raising=False)
    if is_file:
        monkeypatch.setenv("PAGEMILL_API_KEY_FILE", str(tmp_path / "key"))
    else:
        monkeypatch.setenv("PAGEMILL_API_KEY", "secret")
    monkeypatch.setenv("PAGEMILL_API_PORT", "zero")
    with pytest.raises(ConfigurationError) as caught:
        Settings("api")
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["PAGEMILL_API_PORT"]


def test_variables_that_no_setting_reads_are_named_with_the_one_that_was_meant() -> None:
    names = ["PAGEMILL_API_PORTS", "PAGEMILL_API_PORT", "PAGEMILL_API_KEY_FILE", "PAGEMILL_ZZ", "PATH"]
    assert unknown_variables(names, SECTIONS) == {"PAGEMILL_API_PORTS": "PAGEMILL_API_PORT", "PAGEMILL_ZZ": ""}


def test_an_old_name_of_a_setting_works_and_is_named_with_the_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model").write_text("/models/old\n")
    monkeypatch.setenv("PAGEMILL_COLQWEN_MODEL_FILE", str(tmp_path / "model"))
    monkeypatch.setenv("PAGEMILL_COLQWEN_PRECISION", "bf16")
    monkeypatch.setenv("PAGEMILL_COLQWEN_DEVICE", "cuda:1")
    monkeypatch.setenv("PAGEMILL_VISUAL_DEVICE", "cpu")
    embedder = Settings().embedder
    assert (embedder.visual_model, embedder.visual_precision, embedder.visual_device) == ("/models/old", "bf16", "cpu")
    old = {
        "PAGEMILL_COLQWEN_MODEL_FILE": "PAGEMILL_VISUAL_MODEL_FILE",
        "PAGEMILL_COLQWEN_PRECISION": "PAGEMILL_VISUAL_PRECISION",
        "PAGEMILL_COLQWEN_DEVICE": "PAGEMILL_VISUAL_DEVICE",
    }
    assert old_variables(os.environ, SECTIONS) == old
    assert unknown_variables(old, SECTIONS) == {}
    remedies = {found.detail.split()[0]: found.remedy for found in check_settings()}
    assert remedies == {name: f"set {new} instead" for name, new in old.items()}


def test_one_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_TRACE_SAMPLE_RATIO", "2")
    result = CliRunner().invoke(cli.app, ["topics", "ensure"])
    assert (result.exit_code, result.stderr) == (
        1,
        "error: PAGEMILL_TRACE_SAMPLE_RATIO: Input should be less than or equal to 1."
        " Example: PAGEMILL_TRACE_SAMPLE_RATIO=1.0\n",
    )


def test_no_value_of_a_setting_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in SECTIONS:
        for name in section.model_fields:
            monkeypatch.setenv(f"PAGEMILL_{name.upper()}", "sesame")
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert "sesame" not in str(caught.value).replace("PAGEMILL_HTTP_TRUSTED_PROXIES: 'sesame'", "")


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section in SECTIONS for name in section.model_fields]
)
def test_each_example_is_a_value_that_the_setting_takes(
    section: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = example_of(section, name)
    variable, _, value = example.removeprefix(". Example: ").partition("=")
    monkeypatch.setenv(variable, value)
    if name.startswith("kafka_"):
        monkeypatch.setenv("PAGEMILL_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    if name == "kafka_ssl_keyfile":
        monkeypatch.setenv("PAGEMILL_KAFKA_SSL_CERTFILE", "/etc/pagemill/file")
    assert variable == f"PAGEMILL_{name.upper()}"
    section()
