"""The option `--tenant` of commands that go to the stores themselves."""

from __future__ import annotations

from typing import Annotated

import typer

TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", "-t", help="The tenant. Default: that of COLLECTION, if it is TENANT.NAME."),
]


def qualified(tenant: str | None, collection: str) -> str:
    """The qualified name of the collection that the command line names. Raises BadRequest."""
    from ingestion.model import check_qualified, qualified_name

    return check_qualified(collection) if tenant is None else qualified_name(tenant, collection)
