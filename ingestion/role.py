"""The roles of API keys."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a key may do. Each role includes those before it."""

    READ = "read"
    """Search, and show documents."""
    WRITE = "write"
    """Upload, cancel and delete; replay and discard dead letters."""
    ADMIN = "admin"
    """Manage the keys and the webhooks of the tenant."""

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)
