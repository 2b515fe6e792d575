"""What a tenant uses, for its quotas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TenantContents:
    """The unfinished documents of a tenant, and the pages of its ready ones."""

    documents_in_flight: int
    pages_stored: int


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What a tenant has uploaded in one day."""

    size_bytes: int
    pages: int


class TenantUsage(Protocol):
    async def tenant_contents(self, tenant: str) -> TenantContents:
        """Count the documents of the tenant."""

    async def add_usage(self, tenant: str, day: str, size_bytes: int, pages: int) -> DayUsage:
        """Add to what the tenant has uploaded on `day`, and return the sum. Twice counts twice."""
