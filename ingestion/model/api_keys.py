"""API keys: the record of a key, and its roles. The secret itself is stored nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a key may do. Each role includes those before it."""

    READ = "read"
    """Search, and show documents."""
    WRITE = "write"
    """Upload, cancel and delete."""
    ADMIN = "admin"
    """Manage the keys of the tenant."""

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


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

    def state_at(self, now: datetime) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: the key that it sent, and the tenant that it acts for."""

    tenant: str
    role: Role
    key_id: str
