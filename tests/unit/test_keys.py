"""API keys: their text, the caller that they name, and the limit of failed logins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import metrics
from ingestion.errors import BadRequest, DependencyUnavailable, Forbidden, TooManyRequests, Unauthorized
from ingestion.keys.authenticator import Authenticator
from ingestion.keys.login_limiter import LoginLimiter
from ingestion.keys.tokens import has_secret, key_parts, new_key
from ingestion.model import ApiKey, Principal, Role
from tests.memory import MemoryDocumentStore

SETTINGS_KEY = "a secret €".encode()
HOME, AWAY = "10.0.0.1", "10.0.0.2"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class CountingStore(MemoryDocumentStore):
    """Counts look-ups. `error` is raised by the next ones."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = 0
        self.error: Exception | None = None

    async def api_key(self, key_id: str) -> ApiKey | None:
        self.lookups += 1
        if self.error:
            raise self.error
        return await super().api_key(key_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def authenticator(store: CountingStore, clock: Clock) -> Authenticator:
    return Authenticator(store, SETTINGS_KEY, cache_s=10, limiter=LoginLimiter(3, clock), clock=clock)


async def made(store: CountingStore, tenant: str = "acme", role: Role = Role.READ, **fields: object) -> bytes:
    key, text = new_key(tenant, role)
    await store.insert_key(replace(key, **fields))  # type: ignore[arg-type]
    return text.encode()


def failures(reason: str) -> float:
    return metrics.LOGIN_FAILURES.labels(reason)._value.get()


def test_the_record_of_a_key_does_not_hold_its_secret() -> None:
    key, text = new_key("acme", Role.READ)
    parts = key_parts(text)
    assert parts is not None
    assert parts[0] == key.id
    assert len(parts[1]) >= 43  # 256 bits in base64
    assert parts[1] not in repr(key)
    assert has_secret(key, parts[1])
    assert not has_secret(key, parts[1][:-1])
    assert new_key("acme", Role.READ)[1] != text


@pytest.mark.parametrize("text", ["", "pm_", "pm_x_y", "xx_0123456789abcdef_y", "pm_0123456789abcde._y", "0123456789"])
def test_another_text_is_no_key(text: str) -> None:
    assert key_parts(text) is None


def test_a_key_needs_a_tenant_with_a_usable_name() -> None:
    with pytest.raises(BadRequest, match="tenant name"):
        new_key("ACME.x", Role.READ)


async def test_a_key_names_tenant_and_role(authenticator: Authenticator, store: CountingStore) -> None:
    sent = await made(store, "acme", Role.WRITE)
    found = await authenticator.authenticate(sent, HOME)
    assert (found.tenant, found.role) == ("acme", Role.WRITE)
    assert await authenticator.authenticate(sent, HOME, "acme") == found
    with pytest.raises(Forbidden):
        await authenticator.authenticate(sent, HOME, "other")


async def test_the_key_of_the_settings_may_act_for_each_tenant(authenticator: Authenticator) -> None:
    assert await authenticator.authenticate(SETTINGS_KEY, HOME) == Principal("default", Role.ADMIN, "settings")
    assert (await authenticator.authenticate(SETTINGS_KEY, HOME, "acme")).tenant == "acme"
    with pytest.raises(BadRequest):
        await authenticator.authenticate(SETTINGS_KEY, HOME, "no.tenant")


async def test_keys_that_are_not_valid_are_refused_and_counted(
    authenticator: Authenticator, store: CountingStore
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    right = await made(store)
    refused = {
        "none": (None, b""),
        "wrong": (b"wrong", right + b"x", right[:-1], SETTINGS_KEY + b"x", b"\xff", b"pm_0123456789abcdef_y"),
        "expired": (await made(store, expires_at=yesterday),),
    }
    for reason, keys in refused.items():
        before = failures(reason)
        for sent in keys:
            with pytest.raises(Unauthorized):
                await authenticator.authenticate(sent, None)
        assert failures(reason) - before == len(keys)
    assert (await authenticator.authenticate(right, None)).tenant == "acme"


async def test_requests_read_the_record_once_in_a_while(
    authenticator: Authenticator, store: CountingStore, clock: Clock
) -> None:
    sent = await made(store)
    unknown = new_key("acme", Role.READ)[1].encode()
    for _ in range(5):
        await authenticator.authenticate(sent, None)
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(unknown, None)
    assert store.lookups == 2
    store.error = DependencyUnavailable("mongodb", "down")
    await authenticator.authenticate(sent, None)
    clock.now_s += 10
    with pytest.raises(DependencyUnavailable):
        await authenticator.authenticate(sent, None)


async def test_a_revocation_takes_effect_after_the_time_of_the_cache(
    authenticator: Authenticator, store: CountingStore, clock: Clock
) -> None:
    sent = await made(store)
    caller = await authenticator.authenticate(sent, None)
    await store.revoke_key(caller.key_id)
    clock.now_s += 9.9
    await authenticator.authenticate(sent, None)
    await authenticator.require_valid(caller)
    clock.now_s += 0.2
    with pytest.raises(Unauthorized, match="revoked"):
        await authenticator.authenticate(sent, None)
    with pytest.raises(Unauthorized):
        await authenticator.require_valid(caller)


async def test_only_a_valid_key_has_a_last_use(authenticator: Authenticator, store: CountingStore) -> None:
    sent = await made(store)
    [key] = await store.api_keys()
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(sent + b"x", None)
    assert (await store.api_keys())[0].last_used_at is None
    await authenticator.authenticate(sent, None)
    used_at = store.state.keys[key.id].last_used_at
    assert used_at is not None
    store.clock.advance(60)
    await authenticator.authenticate(sent, None)
    assert store.state.keys[key.id].last_used_at == used_at


async def test_an_address_with_too_many_failures_may_try_no_other_key(
    authenticator: Authenticator, store: CountingStore, clock: Clock
) -> None:
    known, other = await made(store), await made(store)
    await authenticator.authenticate(known, HOME)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(b"wrong", HOME)
    for sent in (b"wrong", other, SETTINGS_KEY):
        with pytest.raises(TooManyRequests) as limited:
            await authenticator.authenticate(sent, HOME)
        assert 0 < limited.value.retry_after_s <= 60
    # A caller behind the same address, and all other addresses, go on.
    await authenticator.authenticate(known, HOME)
    await authenticator.authenticate(SETTINGS_KEY, AWAY)
    clock.now_s += 60
    await authenticator.authenticate(SETTINGS_KEY, HOME)


async def test_failures_that_go_on_are_limited_in_every_minute(authenticator: Authenticator, clock: Clock) -> None:
    refused = 0
    for number in range(30):
        clock.now_s += 10
        try:
            await authenticator.authenticate(f"wrong {number}".encode(), AWAY)
        except TooManyRequests:
            refused += 1
        except Unauthorized:
            pass
    assert refused == 15
