"""How clients connect to Kafka: address, login, encryption, sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from ingestion.settings.base import PositiveInt, Section

_NEEDED: Final = {
    "PLAIN": ("kafka_sasl_username", "kafka_sasl_password"),
    "SCRAM-SHA-256": ("kafka_sasl_username", "kafka_sasl_password"),
    "SCRAM-SHA-512": ("kafka_sasl_username", "kafka_sasl_password"),
    "OAUTHBEARER": ("kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret"),
    "AWS_MSK_IAM": ("kafka_aws_region",),
}
"""The settings that a mechanism cannot do without."""


class KafkaClientSettings(Section):
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, comma separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL and SASL_SSL: encrypted; SASL_PLAINTEXT and SASL_SSL: with a login"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] = Field(
        "SCRAM-SHA-512",
        description="how to log in; OAUTHBEARER: with a token of PAGEMILL_KAFKA_OAUTH_TOKEN_URL; AWS_MSK_IAM: with "
        "the AWS credentials of this process, which needs the package `aws-msk-iam-sasl-signer-python`",
    )
    kafka_sasl_username: str = Field("", description="user of PLAIN and SCRAM")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="password of PLAIN and SCRAM")
    kafka_oauth_token_url: str = Field("", description="token endpoint of OAUTHBEARER (grant `client_credentials`)")
    kafka_oauth_client_id: str = Field("", description="client id of OAUTHBEARER")
    kafka_oauth_client_secret: SecretStr = Field(SecretStr(""), description="client secret of OAUTHBEARER")
    kafka_oauth_scope: str = Field("", description="scope that OAUTHBEARER asks for; empty: none")
    kafka_aws_region: str = Field("", description="region of AWS_MSK_IAM")
    kafka_ssl_cafile: Path | None = Field(
        None, description="certificates (PEM) that sign those of the brokers; empty: the system's"
    )
    kafka_ssl_certfile: Path | None = Field(None, description="certificate (PEM) of this client, with its chain")
    kafka_ssl_keyfile: Path | None = Field(
        None, description="private key (PEM) of PAGEMILL_KAFKA_SSL_CERTFILE; empty: it is in that file"
    )
    kafka_ssl_key_password: SecretStr = Field(SecretStr(""), description="password of the private key")
    kafka_ssl_check_hostname: bool = Field(
        True, description="whether a broker's certificate must name its host; false only for tests"
    )
    kafka_compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="compression of messages; snappy, lz4 and zstd need the package `cramjam`"
    )
    kafka_linger_ms: Annotated[int, Field(ge=0)] = Field(
        0, description="how long a message waits for others that are sent with it"
    )
    kafka_batch_size_bytes: PositiveInt = Field(16_384, description="most bytes of messages that are sent together")
    kafka_fetch_min_bytes: PositiveInt = Field(
        1, description="bytes that a broker waits for before it answers a fetch"
    )
    kafka_fetch_max_bytes: PositiveInt = Field(50 * 1024**2, description="most bytes in one answer to a fetch")
    kafka_fetch_max_partition_bytes: PositiveInt = Field(
        1024**2, description="most bytes of one partition in an answer to a fetch"
    )
    kafka_client_rack: str = Field("", description="rack of this process: it reads from replicas of the same rack")
    kafka_metadata_max_age_ms: PositiveInt = Field(
        30_000,
        description="time after which a client asks for topics and partitions again; it bounds how long added "
        "partitions, or a topic that was deleted and created again, stay unnoticed",
    )
    kafka_extra: Annotated[dict[str, Any], NoDecode] = Field(
        {},
        examples=['{"retry_backoff_ms":500}'],
        description='further options of aiokafka\'s clients, as JSON, for example `{"retry_backoff_ms": 500}`',
    )

    @field_validator("kafka_extra", mode="before")
    @classmethod
    def _decode(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("not a JSON object") from None

    @property
    def kafka_has_login(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL_")

    @property
    def kafka_has_tls(self) -> bool:
        return self.kafka_security_protocol.endswith("SSL")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if faults := [*self._faults()]:
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        if self.kafka_has_login:
            for name in _NEEDED[self.kafka_sasl_mechanism]:
                value = getattr(self, name)
                if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                    yield f"PAGEMILL_{name.upper()} is needed for {self.kafka_sasl_mechanism}"
        # A protocol that is set on purpose turns the login off.
        if self.kafka_sasl_username and "kafka_security_protocol" not in self.model_fields_set:
            yield (
                "PAGEMILL_KAFKA_SASL_USERNAME has no effect alone: set "
                "PAGEMILL_KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT"
            )
        if self.kafka_ssl_cafile and "kafka_security_protocol" not in self.model_fields_set:
            yield (
                "PAGEMILL_KAFKA_SSL_CAFILE has no effect alone: set "
                "PAGEMILL_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"
            )
        if self.kafka_ssl_keyfile and not self.kafka_ssl_certfile:
            yield "PAGEMILL_KAFKA_SSL_KEYFILE has no effect without PAGEMILL_KAFKA_SSL_CERTFILE"
