"""API keys: the record of a key. The secret itself is stored nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingestion.role import Role

SETTINGS_KEY: Final = "settings"
"""The id of the key in the settings. No record has it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The record of a key. `secret_sha256` is the hexadecimal SHA-256 of its secret."""

    id: str
    tenant: str
    role: Role
    secret_sha256: str
    name: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Written at intervals of some minutes."""
    damage: str = ""
    """The unreadable fields of the record, empty if there are none. Such a key is not valid. Not stored."""

    def state_at(self, now: datetime) -> str:
        """Return `active`, `expired`, `revoked` or `damaged`."""
        if self.damage:
            return "damaged"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: the key that it sent, and the tenant that it acts for."""

    tenant: str
    role: Role
    key_id: str

    @property
    def is_operator(self) -> bool:
        """Whether the caller sent the key of the settings, which may act for each tenant."""
        return self.key_id == SETTINGS_KEY
