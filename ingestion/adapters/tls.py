"""Why a TLS connection failed, in words, for all clients."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

_EXPIRED: Final = 10
_WRONG_HOST: Final = (62, 64)
"""Verification codes of OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH."""


_ALERTS: Final = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
)
"""A server's alerts about the certificate of its client. OpenSSL calls them TLSV13_ALERT_CERTIFICATE_REQUIRED, …"""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it comes from, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        reason = getattr(cause, "reason", None)  # urllib3 keeps the cause there
        cause = cause.__cause__ or cause.__context__ or (reason if isinstance(reason, BaseException) else None)


def refused_certificate(
    error: BaseException, server: str, *, address_setting: str, ca_setting: str, client_setting: str = ""
) -> str | None:
    """Say why a certificate is not accepted, the server's or this client's, and which setting helps.

    None for any other error.
    """
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _in_words(cause, server, address_setting, ca_setting)
    return refused_client(" ".join(str(cause) for cause in causes(error)), server, client_setting)


def refused_client(message: str, server: str, client_setting: str) -> str | None:
    """Say that the server does not accept this client's certificate, if the text of an error names such an alert."""
    alert = next((alert for alert in _ALERTS if f"ALERT_{alert}" in message), None)
    if alert is None or not client_setting:
        return None
    return f"{server} does not accept the certificate of this process, or asks for one ({alert}): set {client_setting}"


def _in_words(error: ssl.SSLCertVerificationError, server: str, address_setting: str, ca_setting: str) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {server} has expired: renew it on that server"
    if error.verify_code in _WRONG_HOST:
        return (
            f"the certificate of {server} is for another host ({error.verify_message}): use a name of the certificate "
            f"in {address_setting}"
        )
    return (
        f"the certificate of {server} is not signed by a trusted authority ({error.verify_message}): set {ca_setting}"
    )
