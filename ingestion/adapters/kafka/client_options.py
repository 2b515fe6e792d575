"""The options of all aiokafka clients. Every client gets its address, login and encryption here, and nowhere else."""

from __future__ import annotations

import inspect
import ssl
from importlib.util import find_spec
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from ingestion.adapters.kafka.access_tokens import token_provider
from ingestion.adapters.kafka.topic_creation import forbid_topic_creation
from ingestion.errors import InvalidSetting
from ingestion.settings.kafka_client import KafkaClientSettings

_WITH_OWN_SETTING: Final = frozenset(
    {
        *("bootstrap_servers", "security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username"),
        *("sasl_plain_password", "sasl_oauth_token_provider", "compression_type", "linger_ms", "max_batch_size"),
        *("fetch_min_bytes", "fetch_max_bytes", "max_partition_fetch_bytes", "client_rack", "metadata_max_age_ms"),
    }
)
_RELIED_ON: Final = frozenset(
    {
        *("acks", "enable_idempotence", "transactional_id", "partitioner", "key_serializer", "value_serializer"),
        *("group_id", "group_instance_id", "enable_auto_commit", "auto_commit_interval_ms", "auto_offset_reset"),
        *("key_deserializer", "value_deserializer", "check_crcs", "isolation_level", "max_poll_records"),
        *("max_poll_interval_ms", "session_timeout_ms", "heartbeat_interval_ms", "request_timeout_ms", "client_id"),
        *("partition_assignment_strategy", "consumer_timeout_ms", "loop", "api_version"),
    }
)
"""What Pagemill's promises about jobs rest on."""


def client_options(settings: KafkaClientSettings, **own: Any) -> dict[str, Any]:
    """Return the options that all clients of aiokafka have, and `own`.

    Raises InvalidSetting if a certificate cannot be read, or if PAGEMILL_KAFKA_EXTRA cannot be used.
    """
    forbid_topic_creation()
    options = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": settings.kafka_security_protocol,
        "metadata_max_age_ms": settings.kafka_metadata_max_age_ms,
        **_login(settings),
        **own,
    }
    if settings.kafka_has_tls:
        options["ssl_context"] = _ssl_context(settings)
    return {**_extra(settings, AIOKafkaAdminClient, own), **options}


def producer_options(settings: KafkaClientSettings, **own: Any) -> dict[str, Any]:
    """The same for a producer. Raises InvalidSetting also if the library of the compression is not installed."""
    compression = settings.kafka_compression
    if compression in ("snappy", "lz4", "zstd") and not _has_cramjam():
        raise InvalidSetting(
            f"PAGEMILL_KAFKA_COMPRESSION={compression} needs the package cramjam: pip install cramjam, or choose gzip"
        )
    sizes = {
        "compression_type": None if compression == "none" else compression,
        "linger_ms": settings.kafka_linger_ms,
        "max_batch_size": settings.kafka_batch_size_bytes,
    }
    return {**_extra(settings, AIOKafkaProducer, own), **client_options(settings, **sizes, **own)}


def consumer_options(settings: KafkaClientSettings, **own: Any) -> dict[str, Any]:
    """The same for a consumer."""
    sizes = {
        "fetch_min_bytes": settings.kafka_fetch_min_bytes,
        "fetch_max_bytes": settings.kafka_fetch_max_bytes,
        "max_partition_fetch_bytes": settings.kafka_fetch_max_partition_bytes,
        "client_rack": settings.kafka_client_rack or None,
    }
    return {**_extra(settings, AIOKafkaConsumer, own), **client_options(settings, **sizes, **own)}


def _login(settings: KafkaClientSettings) -> dict[str, Any]:
    if not settings.kafka_has_login:
        return {}
    if (provider := token_provider(settings)) is not None:
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
    return {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
    }


def _ssl_context(settings: KafkaClientSettings) -> ssl.SSLContext:
    """The files are read anew for each client, so that a renewed certificate is used after the next connection."""
    cafile, certfile = settings.kafka_ssl_cafile, settings.kafka_ssl_certfile
    try:
        context = ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"PAGEMILL_KAFKA_SSL_CAFILE: {cafile} has no readable certificate: {error}") from error
    context.check_hostname = settings.kafka_ssl_check_hostname
    if certfile is not None:
        # Without a password OpenSSL asks for it on the terminal.
        password = settings.kafka_ssl_key_password.get_secret_value
        try:
            context.load_cert_chain(certfile, settings.kafka_ssl_keyfile, password)
        except (OSError, ValueError) as error:
            raise InvalidSetting(
                f"PAGEMILL_KAFKA_SSL_CERTFILE, PAGEMILL_KAFKA_SSL_KEYFILE: {certfile} and its key cannot be used: "
                f"{error}"
            ) from error
    return context


def _extra(settings: KafkaClientSettings, client: type, own: dict[str, Any]) -> dict[str, Any]:
    """Return the options of PAGEMILL_KAFKA_EXTRA that `client` has."""
    known = {kind: _parameters(kind) for kind in (AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient)}
    for name in settings.kafka_extra:
        if name in _WITH_OWN_SETTING | _RELIED_ON | own.keys():
            reason = "has a setting of its own" if name in _WITH_OWN_SETTING else "is set by Pagemill"
            raise InvalidSetting(f"PAGEMILL_KAFKA_EXTRA: {name} {reason}: remove it")
        if not any(name in parameters for parameters in known.values()):
            possible = sorted(set().union(*known.values()) - _WITH_OWN_SETTING - _RELIED_ON)
            raise InvalidSetting(f"PAGEMILL_KAFKA_EXTRA: aiokafka has no option {name}; it has {', '.join(possible)}")
    return {name: value for name, value in settings.kafka_extra.items() if name in known[client]}


def _parameters(client: type) -> set[str]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {name for name, one in inspect.signature(client).parameters.items() if one.kind in kinds}


def _has_cramjam() -> bool:
    return find_spec("cramjam") is not None
