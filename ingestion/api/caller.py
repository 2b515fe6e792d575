"""The route that tells a caller what its API key may do."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ingestion.api.dependencies import PrincipalDep, ServicesDep
from ingestion.role import Role
from ingestion.search_mode import SearchMode

router = APIRouter(tags=["keys"])


class CallerView(BaseModel):
    """The caller of the request, and the limits that it should know."""

    tenant: str = Field(description="the tenant that the request acts for")
    role: Role
    every_tenant: bool = Field(description="true for PAGEMILL_API_KEY: the header Pagemill-Tenant chooses the tenant")
    max_file_bytes: int = Field(description="a larger file is refused")
    search_mode: SearchMode = Field(description="of a search that names none")


@router.get("/caller")
async def get_caller(principal: PrincipalDep, services: ServicesDep) -> CallerView:
    """The tenant and the role of the API key that the request has."""
    return CallerView(
        tenant=principal.tenant,
        role=principal.role,
        every_tenant=principal.is_operator,
        max_file_bytes=services.settings.api.max_file_bytes,
        search_mode=services.settings.search.search_mode,
    )
