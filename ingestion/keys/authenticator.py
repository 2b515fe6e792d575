"""Finds the caller of a request by the API key that it sends."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from cachetools import TTLCache

from ingestion import metrics
from ingestion.concurrency.deadline import budget
from ingestion.errors import Forbidden, IngestError, TooManyRequests, Unauthorized
from ingestion.keys.login_limiter import LoginLimiter
from ingestion.keys.tokens import has_secret, key_parts
from ingestion.model import DEFAULT_TENANT, SETTINGS_KEY, ApiKey, Principal, Role, check_tenant
from ingestion.ports import ApiKeys

log = structlog.get_logger(__name__)

_MOST_KEYS: Final = 10_000
_MOST_UNKNOWN: Final = 10_000
_TOUCH_EVERY_S: Final = 300.0
_TOUCH_S: Final = 1.0


class Authenticator:
    """Knows the key of the settings and those in the database.

    It reads a key's record at most once in `cache_s`. So a request normally waits for no server, and a revocation
    takes effect after `cache_s` at the latest. An unknown id is remembered for the same time.
    """

    def __init__(
        self,
        keys: ApiKeys,
        settings_key: bytes,
        *,
        cache_s: float,
        limiter: LoginLimiter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._settings_key = settings_key
        self._limiter = limiter
        self._known: TTLCache[str, ApiKey] = TTLCache(_MOST_KEYS, cache_s, clock)
        self._unknown: TTLCache[str, bool] = TTLCache(_MOST_UNKNOWN, cache_s, clock)
        self._touched: TTLCache[str, bool] = TTLCache(_MOST_KEYS, _TOUCH_EVERY_S, clock)

    async def authenticate(self, sent: bytes | None, address: str | None, tenant: str | None = None) -> Principal:
        """Return the caller that sent this key from `address`. `tenant`: the tenant that it wants to act for.

        Raises Unauthorized, TooManyRequests after too many failures of the address, Forbidden where the key is not
        of `tenant`, BadRequest, DependencyUnavailable.
        """
        if not sent:
            metrics.LOGIN_FAILURES.labels("none").inc()
            raise Unauthorized("send the API key as 'Authorization: Bearer KEY'")
        try:
            self._limiter.check(address, sent)
        except TooManyRequests:
            metrics.LOGIN_FAILURES.labels("limited").inc()
            raise
        if hmac.compare_digest(sent, self._settings_key):
            principal = Principal(DEFAULT_TENANT if tenant is None else check_tenant(tenant), Role.ADMIN, SETTINGS_KEY)
        else:
            key = await self._valid_key(sent, address)
            if tenant not in (None, key.tenant):
                raise Forbidden("the API key is of another tenant")
            principal = Principal(key.tenant, key.role, key.id)
        self._limiter.succeeded(address, sent)
        return principal

    async def require_valid(self, principal: Principal) -> None:
        """Raises Unauthorized where the caller's key has been revoked, or has expired, since it was authenticated."""
        if principal.key_id == SETTINGS_KEY:
            return
        key = await self._key(principal.key_id)
        if key is None or key.state_at(datetime.now(UTC)) != "active":
            raise Unauthorized("the API key is no longer valid")

    async def _valid_key(self, sent: bytes, address: str | None) -> ApiKey:
        parts = key_parts(sent.decode("utf-8", "replace"))
        key = None if parts is None else await self._key(parts[0])
        if parts is None or key is None or not has_secret(key, parts[1]):
            raise self._failure("wrong", "the API key is wrong", address, parts[0] if key and parts else "")
        state = key.state_at(datetime.now(UTC))
        if state != "active":
            raise self._failure(state, f"the API key is {state}", address, key.id)
        await self._touch(key.id)
        return key

    def _failure(self, reason: str, message: str, address: str | None, key_id: str) -> Unauthorized:
        metrics.LOGIN_FAILURES.labels(reason).inc()
        self._limiter.failed(address)
        log.warning("login failed", reason=reason, address=address or "", key=key_id)
        return Unauthorized(message)

    async def _key(self, key_id: str) -> ApiKey | None:
        if (known := self._known.get(key_id)) is not None:
            return known
        if key_id in self._unknown:
            return None
        key = await self._keys.api_key(key_id)
        if key is None:
            self._unknown[key_id] = True
            return None
        self._known[key_id] = key
        return key

    async def _touch(self, key_id: str) -> None:
        """Record the use of the key. Best effort, and at most once in `_TOUCH_EVERY_S`."""
        if key_id in self._touched:
            return
        self._touched[key_id] = True
        try:
            with budget(_TOUCH_S):
                await self._keys.touch_key(key_id)
        except IngestError as error:
            log.warning("use of an API key not recorded", key=key_id, cause=error.message)
