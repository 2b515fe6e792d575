"""The caller of a request below `/api/v1`: the API key of a request, sent as a bearer token.

`ApiKeyMiddleware` finds the caller before the body is read. `authorize`, a dependency of all these routes, checks its
role. Routes take `PrincipalDep`, `CollectionDep` and `DocumentDep` from `ingestion.api.dependencies`. They name the
caller, and a collection or document of the caller's tenant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.api.client_address import AddressOf
from ingestion.api.problems import problem_of
from ingestion.errors import Forbidden, IngestError, Unauthorized
from ingestion.keys.authenticator import Authenticator
from ingestion.keys.quotas import QuotaKeeper
from ingestion.model import Principal, Role, check_collection

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

TENANT_HEADER: Final = "Pagemill-Tenant"
"""The tenant that the key of the settings acts for. Another key may name its own tenant only."""
_PRINCIPAL: Final = "pagemill.principal"
_ROLE: Final = "_pagemill_role"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_COLLECTION_PARAMETERS: Final = ("collection", "conversation")
_SCHEME: Final = "bearer"
_bearer = HTTPBearer(auto_error=False, description="an API key of `pagemill keys`, or the value of PAGEMILL_API_KEY")


class ApiKeyMiddleware:
    """Answers 401 to a request below one of `prefixes` without a valid key, and 429 above the tenant's quota.

    Both before its body is read.

    FastAPI reads the body before it calls dependencies, so a dependency is too late for that.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        prefixes: tuple[str, ...],
        authenticator: Authenticator,
        quotas: QuotaKeeper,
        address_of: AddressOf,
    ) -> None:
        self._app = app
        self._prefixes = prefixes
        self._authenticator = authenticator
        self._quotas = quotas
        self._address_of = address_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefixes):
            headers = Headers(scope=scope)
            tenant = headers.get(TENANT_HEADER)
            try:
                principal = await self._authenticator.authenticate(
                    bearer_token(headers), self._address_of(scope), tenant
                )
                self._quotas.check_request(principal.tenant)
                scope[_PRINCIPAL] = principal
            except IngestError as error:
                await problem_of(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def principal_of(request: Request) -> Principal:
    """The caller. Raises Unauthorized where the middleware does not guard the route."""
    principal: Principal | None = request.scope.get(_PRINCIPAL)
    if principal is None:
        raise Unauthorized("this address needs an API key")
    return principal


async def authorize(
    request: Request,
    principal: Annotated[Principal, Depends(principal_of)],
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Raises Forbidden where the caller's role does not include that of the route.

    A route that reads needs the role `read`, any other one `write`, unless `needs` names another. It also refuses
    qualified names of collections (BadRequest), and puts the security scheme into the OpenAPI document.
    """
    by_method = Role.READ if request.method in _READING else Role.WRITE
    needed: Role = getattr(request.scope.get("endpoint"), _ROLE, by_method)
    if not principal.role.includes(needed):
        raise Forbidden(f"the API key has the role {principal.role.value!r}; this request needs {needed.value!r}")
    for name in _COLLECTION_PARAMETERS:
        if (collection := request.path_params.get(name)) is not None:
            check_collection(collection)


def needs(role: Role) -> Callable[[Endpoint], Endpoint]:
    """A decorator of a route: the role that its callers need. Write it below the route's decorator."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _ROLE, role)
        return endpoint

    return mark


def bearer_token(headers: Headers) -> bytes | None:
    """The bytes of the token. None where there is none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    # Starlette decodes headers as Latin-1; this restores the bytes that were sent.
    return credentials.strip().encode("latin-1") if scheme.lower() == _SCHEME else None


def secret_of(key: SecretStr) -> bytes:
    """Raises ValueError where `key` is empty."""
    secret = key.get_secret_value().encode()
    if not secret.strip():
        raise ValueError("the API needs a key: set PAGEMILL_API_KEY to a secret that its clients send")
    return secret
