"""Secrets and signatures in the manner of Standard Webhooks: HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """`whsec_` and the base64 of 256 random bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature_headers(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a request. `timestamp_s` is the Unix time of the attempt."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": f"v1,{digest}"}
