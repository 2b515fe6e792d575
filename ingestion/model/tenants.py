"""Tenants, and the names of their collections.

Two tenants may use the same collection name. So every store, job and log line has the *qualified* name: the tenant,
a separator that public names cannot contain, and the public name. Collections of the default tenant keep their public
names, as releases before 0.3 stored them.
"""

from __future__ import annotations

import re
from typing import Final

from ingestion.errors import BadRequest
from ingestion.model.names import check_collection

DEFAULT_TENANT: Final = "default"
_SEPARATOR: Final = "."
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def check_tenant(name: str) -> str:
    """Return `name`. Raises BadRequest if it is not a valid tenant name."""
    if not _TENANT.fullmatch(name):
        raise BadRequest(
            f"tenant name {name[:60]!r} is not usable: 1 to 40 lower-case letters, digits or '-', "
            "beginning with a letter or digit"
        )
    return name


def qualified_name(tenant: str, collection: str) -> str:
    """Return the qualified name of a tenant's collection. Raises BadRequest for an invalid name."""
    check_collection(collection)
    return collection if check_tenant(tenant) == DEFAULT_TENANT else f"{tenant}{_SEPARATOR}{collection}"


def check_qualified(name: str) -> str:
    """Return `name`. Raises BadRequest if it is no qualified name."""
    if qualified_name(tenant_of(name), public_name(name)) != name:
        raise BadRequest(f"collection name {name!r} is not usable: the default tenant's names have no prefix")
    return name


def tenant_of(qualified: str) -> str:
    """Return the tenant of a collection."""
    tenant, separator, _ = qualified.partition(_SEPARATOR)
    return tenant if separator else DEFAULT_TENANT


def public_name(qualified: str) -> str:
    """Return the name that the tenant gave to the collection."""
    return qualified.partition(_SEPARATOR)[2] if _SEPARATOR in qualified else qualified
