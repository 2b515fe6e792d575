"""Routes of API keys: for administrators of a tenant, and for the key of the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from ingestion.api.auth import needs
from ingestion.api.dependencies import PrincipalDep, ServicesDep
from ingestion.concurrency.deadline import budget
from ingestion.errors import BadRequest, Conflict, Forbidden
from ingestion.keys.tokens import new_key
from ingestion.model import ApiKey, Principal, Role, check_tenant, check_text

router = APIRouter(tags=["keys"])

_MOST_ACTIVE: Final = 1_000
_MOST_NAME_CHARS: Final = 200


class KeyView(BaseModel):
    """A key without its secret."""

    key: str = Field(description="the id of the key")
    tenant: str
    role: Role | None = Field(description="null where the record is damaged")
    name: str
    state: str = Field(description="active, expired, revoked or damaged; only an active key is valid")
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to 5 minutes")

    @classmethod
    def of(cls, key: ApiKey) -> KeyView:
        return cls(
            key=key.id,
            tenant=key.tenant,
            role=None if key.damage else key.role,
            name=key.name,
            state=key.state_at(datetime.now(UTC)),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
        )


class KeyListView(BaseModel):
    keys: list[KeyView]


class KeyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Role = Field(Role.READ, description="read, write or admin; each includes those before it")
    name: str = Field("", max_length=_MOST_NAME_CHARS, description="what the key is for")
    expires_at: datetime | None = Field(None, description="UTC where it has no zone; null: it does not expire")
    tenant: str | None = Field(None, description="another tenant: only with the key of the settings")


class NewKeyView(KeyView):
    api_key: str = Field(description="the key itself; it is stored nowhere and cannot be shown again")


@router.get("/keys")
@needs(Role.ADMIN)
async def list_keys(
    services: ServicesDep,
    principal: PrincipalDep,
    tenant: Annotated[str | None, Query(description="only keys of this tenant")] = None,
) -> KeyListView:
    """The keys of the caller's tenant, by id, also those that are no longer valid.

    With the key of the settings: those of all tenants, or of one.
    """
    wanted = tenant if tenant is None and principal.is_operator else _tenant(principal, tenant)
    with budget(services.settings.api.store_budget_s):
        found = await services.documents.api_keys(wanted)
    return KeyListView(keys=[KeyView.of(key) for key in found])


@router.post("/keys", status_code=201)
@needs(Role.ADMIN)
async def create_key(wanted: KeyRequest, services: ServicesDep, principal: PrincipalDep) -> NewKeyView:
    """Create a key of the caller's tenant. The answer alone has its text. A repeated request makes a second key."""
    tenant = _tenant(principal, wanted.tenant)
    key, text = new_key(
        tenant, wanted.role, name=check_text(wanted.name, "the name"), expires_at=_expiry(wanted.expires_at)
    )
    with budget(services.settings.api.store_budget_s):
        now = datetime.now(UTC)
        active = sum(one.state_at(now) == "active" for one in await services.documents.api_keys(tenant))
        if active >= _MOST_ACTIVE:
            raise Conflict(f"tenant {tenant!r} has {active} active keys: revoke some of them first")
        await services.documents.insert_key(key)
        stored = await services.documents.api_key(key.id) or key
    return NewKeyView(**KeyView.of(stored).model_dump(), api_key=text)


@router.delete("/keys/{key_id}", status_code=204)
@needs(Role.ADMIN)
async def revoke_key(key_id: str, services: ServicesDep, principal: PrincipalDep) -> None:
    """Revoke a key for good. Each API process refuses it after PAGEMILL_KEY_CACHE_S at the latest. Twice is safe."""
    with budget(services.settings.api.store_budget_s):
        await services.documents.revoke_key(key_id, None if principal.is_operator else principal.tenant)


def _tenant(principal: Principal, named: str | None) -> str:
    """Raises Forbidden where a key that is not of the settings names another tenant, BadRequest for no valid name."""
    if named is None or named == principal.tenant:
        return principal.tenant
    if not principal.is_operator:
        raise Forbidden("the API key is of another tenant")
    return check_tenant(named)


def _expiry(at: datetime | None) -> datetime | None:
    """Raises BadRequest for a time in the past."""
    if at is None:
        return None
    try:
        expires_at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except OverflowError as error:
        raise BadRequest("expires_at is too far away") from error
    if expires_at <= datetime.now(UTC):
        raise BadRequest("expires_at is in the past")
    return expires_at
