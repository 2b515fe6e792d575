"""Why a broker refuses a client: login, certificate, rights.

aiokafka hides the cause of a connection that fails behind "Unable to bootstrap" or "Unable to get cluster metadata".
`explained` opens a connection of its own and returns the cause that the connection meets.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from ingestion.adapters.kafka.access_tokens import TokenRefused
from ingestion.adapters.kafka.client_options import client_options
from ingestion.adapters.tls import causes, refused_certificate
from ingestion.errors import DependencyRefused, DependencyUnavailable
from ingestion.settings.kafka_client import KafkaClientSettings

DEPENDENCY: Final = "kafka"
CLIENT_ERRORS: Final = (errors.KafkaError, OSError, TimeoutError)
"""What aiokafka raises."""

_PROBE_S: Final = 5.0
_REQUEST_TIMEOUT_MS: Final = 4_000
_TLS_SETTINGS: Final = {
    "address_setting": "PAGEMILL_KAFKA_BOOTSTRAP and in the broker's advertised.listeners",
    "ca_setting": "PAGEMILL_KAFKA_SSL_CAFILE",
}
_MECHANISM_ERRORS: Final = (
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthenticationMethodNotSupported,
)
_LOGIN_ERRORS: Final = (errors.SaslAuthenticationFailed, errors.AuthenticationFailedError)
_RIGHTS: Final[dict[type[Exception], str]] = {
    errors.TopicAuthorizationFailedError: "no right on a topic",
    errors.GroupAuthorizationFailedError: "no right on a consumer group",
    errors.ClusterAuthorizationFailedError: "no right to publish: it needs Write on a topic",
}


def translate(error: BaseException) -> DependencyUnavailable:
    """Return the error for an exception of aiokafka or of its socket.

    It is DependencyUnavailable in all cases: no refusal of the broker, such as a missing right or too few replicas, is
    the job's fault.
    """
    for kind, what in _RIGHTS.items():
        if isinstance(error, kind):
            named = f" ({', '.join(map(str, error.args))})" if error.args else ""
            return DependencyRefused(DEPENDENCY, f"{what}{named}; docs/security.md lists the rights")
    return DependencyUnavailable(DEPENDENCY, f"{type(error).__name__}: {error}")


async def explained(settings: KafkaClientSettings, error: BaseException) -> DependencyUnavailable:
    """Return the error for an exception of aiokafka, with the cause that it hides. Takes `_PROBE_S` at most."""
    if not isinstance(error, errors.KafkaError):
        return translate(error)
    refusal = unreachable = None
    try:
        async with asyncio.timeout(_PROBE_S):
            for host, port, _ in collect_hosts(settings.kafka_bootstrap):
                cause = await _failure(settings, host, port)
                if cause is None:  # the cluster answers by now
                    return translate(error)
                refusal = refusal or _refusal(cause, settings, f"{host}:{port}")
                unreachable = unreachable or cause
    except TimeoutError:
        pass
    if refusal is None and unreachable is not None and _is_closed(unreachable):
        return DependencyUnavailable(
            DEPENDENCY,
            "the broker closes the connection without an answer: it is starting, or PAGEMILL_KAFKA_SECURITY_PROTOCOL="
            f"{settings.kafka_security_protocol} does not fit that port",
        )
    return refusal or translate(unreachable or error)


async def _failure(settings: KafkaClientSettings, host: str, port: int) -> Exception | None:
    """Return what a connection and one request fail with. None if they succeed."""
    options = client_options(settings, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    names = ("security_protocol", "ssl_context", "request_timeout_ms")
    login = {name: value for name, value in options.items() if name in names or name.startswith("sasl_")}
    try:
        connection = await create_conn(host, port, **login)
    except CLIENT_ERRORS as error:
        return error
    try:
        await connection.send(MetadataRequest([]))
    except CLIENT_ERRORS as error:
        return error
    finally:
        connection.close()
    return None


def _refusal(error: BaseException, settings: KafkaClientSettings, address: str) -> DependencyRefused | None:
    """Return None if the cause is not the login or the certificate."""
    for cause in causes(error):
        if message := _in_words(cause, settings, address):
            return DependencyRefused(DEPENDENCY, message)
    return None


def _is_closed(error: BaseException) -> bool:
    return any(isinstance(cause, EOFError | ConnectionResetError) for cause in causes(error))


def _in_words(error: Any, settings: KafkaClientSettings, address: str) -> str:
    mechanism = settings.kafka_sasl_mechanism
    if isinstance(error, ssl.SSLCertVerificationError):
        return refused_certificate(error, address, **_TLS_SETTINGS) or ""
    if isinstance(error, ssl.SSLError):
        return (
            f"the TLS handshake with {address} failed ({error.reason or error}): PAGEMILL_KAFKA_SECURITY_PROTOCOL "
            "must fit that port; a broker that wants a client certificate needs PAGEMILL_KAFKA_SSL_CERTFILE"
        )
    if isinstance(error, TokenRefused):
        return f"{error.args[0]}: check PAGEMILL_KAFKA_OAUTH_CLIENT_ID, …_CLIENT_SECRET, …_SCOPE"
    if isinstance(error, _LOGIN_ERRORS):
        login = "PAGEMILL_KAFKA_SASL_USERNAME and PAGEMILL_KAFKA_SASL_PASSWORD"
        if mechanism in ("OAUTHBEARER", "AWS_MSK_IAM"):
            login = "the settings PAGEMILL_KAFKA_OAUTH_…" if mechanism == "OAUTHBEARER" else "the AWS credentials"
        return f"{address} does not accept the {mechanism} login: check {login}"
    if isinstance(error, _MECHANISM_ERRORS):
        return f"{address} has no {mechanism}: change PAGEMILL_KAFKA_SASL_MECHANISM"
    return ""
