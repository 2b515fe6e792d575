"""The text of an API key: `pm_`, the public id of its record, `_`, and a secret of 256 random bits.

The id finds the record. The secret is compared with the SHA-256 in the record: 256 random bits cannot be guessed from
a fast hash, so no slow one is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final

from ingestion.model import ApiKey, Role, check_tenant

_PREFIX: Final = "pm"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32


def new_key(tenant: str, role: Role, *, name: str = "", expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """Return a new key's record and its text, which can be read nowhere later. Raises BadRequest for the tenant."""
    check_tenant(tenant)
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    record = ApiKey(key_id, tenant, role, _digest(secret), name=name, expires_at=expires_at)
    return record, f"{_PREFIX}_{key_id}_{secret}"


def key_parts(text: str) -> tuple[str, str] | None:
    """Return the id and the secret. None where `text` has another form."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != _PREFIX or len(parts[1]) != 2 * _ID_BYTES or not parts[1].isalnum():
        return None
    return parts[1], parts[2]


def has_secret(key: ApiKey, secret: str) -> bool:
    """Whether `secret` is that of the key. Takes the same time wherever they differ."""
    return hmac.compare_digest(_digest(secret), key.secret_sha256)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
