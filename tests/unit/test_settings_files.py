"""Settings from files, and settings in the texts of errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError
from typer.testing import CliRunner

from ingestion.settings import SECTIONS, KafkaSettings
from workers.cli import app

SECRETS = [
    (section, name)
    for section in SECTIONS
    for name, field in section.model_fields.items()
    if field.annotation is SecretStr
]


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_USERNAME", "pagemill")


@pytest.mark.parametrize(("section", "name"), SECRETS)
def test_each_secret_may_come_from_a_file(
    section: type, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    monkeypatch.delenv("PAGEMILL_KAFKA_SASL_USERNAME")
    (tmp_path / "secret").write_text(" sesame \n")
    monkeypatch.setenv(f"PAGEMILL_{name.upper()}_FILE", str(tmp_path / "secret"))
    assert getattr(section(), name).get_secret_value() == " sesame "


def test_a_setting_comes_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_PASSWORD", "sesame")
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match=r"PAGEMILL_KAFKA_SASL_PASSWORD and PAGEMILL_KAFKA_SASL_PASSWORD_FILE"):
        KafkaSettings()


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "secret"))
    result = CliRunner().invoke(app, ["topics", "ensure", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"PAGEMILL_KAFKA_SASL_PASSWORD_FILE: {tmp_path}/secret cannot be read: No such file" in result.output


def test_an_error_quotes_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_PASSWORD", "sesame")
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_MECHANISM", "OAUTHBEARER")
    with pytest.raises(ValidationError) as caught:
        KafkaSettings()
    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(caught.value)


def test_the_command_line_names_settings_that_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_SASL_MECHANISM", "PLAIN")
    result = CliRunner().invoke(app, ["topics", "ensure", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "error: PAGEMILL_KAFKA_SASL_PASSWORD is needed for PLAIN" in result.output
