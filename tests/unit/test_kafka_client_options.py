"""The options of aiokafka's clients, from the settings."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from pydantic import ValidationError

from ingestion.adapters.kafka import client_options as options_module
from ingestion.adapters.kafka.client_options import client_options, consumer_options, producer_options
from ingestion.errors import InvalidSetting
from ingestion.settings import KafkaSettings

LOGIN = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-256",
    "kafka_sasl_username": "pagemill",
    "kafka_sasl_password": "sesame",
}


def test_each_client_takes_its_options() -> None:
    settings = KafkaSettings(**LOGIN, kafka_extra='{"retry_backoff_ms": 50, "max_request_size": 9000}')
    producer, consumer, client = producer_options(settings), consumer_options(settings), client_options(settings)
    for kind, options in ((AIOKafkaProducer, producer), (AIOKafkaConsumer, consumer), (AIOKafkaAdminClient, client)):
        assert options.keys() <= inspect.signature(kind).parameters.keys()
        assert options["sasl_plain_password"] == "sesame"
        assert options["ssl_context"].check_hostname
        assert options["retry_backoff_ms"] == 50
    assert producer["max_request_size"] == 9000
    assert "max_request_size" not in consumer


def test_a_probe_connection_takes_the_login_of_the_clients() -> None:
    assert {"security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_password", "sasl_plain_username"} | {
        "sasl_oauth_token_provider",
        "request_timeout_ms",
    } <= inspect.signature(create_conn).parameters.keys()


def test_without_settings_nothing_is_encrypted_or_compressed() -> None:
    options = producer_options(KafkaSettings())
    assert options["security_protocol"] == "PLAINTEXT"
    assert options["compression_type"] is None
    assert "ssl_context" not in options and "sasl_mechanism" not in options


@pytest.mark.parametrize("name", ["acks", "enable_idempotence", "enable_auto_commit", "group_id", "sasl_mechanism"])
def test_extra_options_cannot_replace_those_that_pagemill_relies_on(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"PAGEMILL_KAFKA_EXTRA: {name}"):
        consumer_options(KafkaSettings(kafka_extra=f'{{"{name}": 1}}'))


def test_an_extra_option_cannot_replace_one_that_the_caller_sets() -> None:
    with pytest.raises(InvalidSetting, match="retry_backoff_ms is set by Pagemill"):
        producer_options(KafkaSettings(kafka_extra='{"retry_backoff_ms": 1}'), retry_backoff_ms=2)


def test_an_unknown_extra_option_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"no option lingre_ms; it has .*retry_backoff_ms"):
        client_options(KafkaSettings(kafka_extra='{"lingre_ms": 1}'))


def test_a_library_that_the_compression_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options_module, "find_spec", lambda _: None)
    with pytest.raises(InvalidSetting, match="cramjam"):
        producer_options(KafkaSettings(kafka_compression="zstd"))
    assert producer_options(KafkaSettings(kafka_compression="gzip"))["compression_type"] == "gzip"


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(InvalidSetting, match=f"PAGEMILL_KAFKA_SSL_CAFILE: {path}"):
            client_options(KafkaSettings(kafka_security_protocol="SSL", kafka_ssl_cafile=path))
    with pytest.raises(InvalidSetting, match="PAGEMILL_KAFKA_SSL_CERTFILE"):
        client_options(KafkaSettings(kafka_security_protocol="SSL", kafka_ssl_certfile=empty))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({**LOGIN, "kafka_sasl_password": ""}, "PAGEMILL_KAFKA_SASL_PASSWORD is needed for SCRAM-SHA-256"),
        ({"kafka_sasl_username": "pagemill"}, "PAGEMILL_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_ssl_cafile": "/ca.pem"}, "PAGEMILL_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "/key.pem"}, "PAGEMILL_KAFKA_SSL_CERTFILE"),
        ({**LOGIN, "kafka_sasl_mechanism": "OAUTHBEARER"}, "PAGEMILL_KAFKA_OAUTH_TOKEN_URL"),
        ({**LOGIN, "kafka_sasl_mechanism": "AWS_MSK_IAM"}, "PAGEMILL_KAFKA_AWS_REGION"),
    ],
)
def test_settings_that_contradict_each_other_are_named(values: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        KafkaSettings(**values)


@pytest.mark.parametrize("value", ["", "{", "[]", "1"])
def test_extra_options_are_a_json_object(value: str) -> None:
    with pytest.raises(ValidationError, match="kafka_extra"):
        KafkaSettings(kafka_extra=value)


def test_aws_needs_its_signer() -> None:
    settings = KafkaSettings(**LOGIN | {"kafka_sasl_mechanism": "AWS_MSK_IAM", "kafka_aws_region": "eu-west-1"})
    with pytest.raises(InvalidSetting, match="aws-msk-iam-sasl-signer-python"):
        client_options(settings)
