"""The work and the output of `pagemill keys`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from rich import box
from rich.table import Table

from ingestion.errors import NotFound
from ingestion.keys.tokens import new_key
from ingestion.model import ApiKey, Role, check_tenant, check_text
from workers.commands.installation import open_installation
from workers.commands.terminal import add_text_column, cell, say, stdout, write_json_line


def create_key(
    tenant: str, role: Role, name: str, expires: datetime | None, *, as_json: bool, data_dir: Path | None
) -> None:
    """Raises BadRequest, DependencyUnavailable."""
    key, text = new_key(tenant, role, name=check_text(name, "the name"), expires_at=expires)

    async def insert() -> None:
        async with open_installation(data_dir) as services:
            await services.documents.insert_key(key)

    anyio.run(insert)
    if as_json:
        write_json_line({**_as_json(key), "api_key": text})
        return
    say(text)
    say(cell(f"Keep it: it cannot be shown again. Its id is {key.id}: tenant {tenant}, role {role.value}.", "dim"))


def list_keys(tenant: str | None, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises BadRequest, DependencyUnavailable."""

    async def read() -> list[ApiKey]:
        async with open_installation(data_dir) as services:
            return [*await services.documents.api_keys(None if tenant is None else check_tenant(tenant))]

    keys = anyio.run(read)
    if as_json:
        for key in keys:
            write_json_line(_as_json(key))
    elif keys:
        stdout().print(_table(keys))
    else:
        say("no keys")


def revoke_keys(key_ids: list[str], *, data_dir: Path | None) -> bool:
    """True where every key was found. Raises DependencyUnavailable."""

    async def revoke() -> bool:
        found = 0
        async with open_installation(data_dir) as services:
            for key_id in dict.fromkeys(key_ids):
                try:
                    key = await services.documents.revoke_key(key_id)
                except NotFound as error:
                    say(cell(error.message, "red"))
                    continue
                found += 1
                say("revoked", key.id, cell(f"{key.tenant} {key.role.value} {key.name}", "dim"))
        return found == len(set(key_ids))

    return anyio.run(revoke)


def _as_json(key: ApiKey) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "key": key.id,
        "tenant": key.tenant,
        "role": None if key.damage else key.role.value,
        "name": key.name,
        "state": key.state_at(datetime.now(UTC)),
        "damage": key.damage or None,
        **{name: at.isoformat(timespec="seconds") if at else None for name, at in times.items()},
    }


def _table(keys: list[ApiKey]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("key", no_wrap=True)  # shown whole, since `revoke` takes it
    add_text_column(table, "tenant", 10)
    table.add_column("role", no_wrap=True)
    add_text_column(table, "name", 10)
    table.add_column("state", no_wrap=True)
    for column in ("expires", "used (UTC)"):
        table.add_column(column, no_wrap=True)
    for key in keys:
        state = key.state_at(datetime.now(UTC))
        table.add_row(
            cell(key.id),
            cell(key.tenant),
            "" if key.damage else key.role.value,
            cell(key.name),
            cell(state, "" if state == "active" else "yellow"),
            f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never",
            f"{key.last_used_at:%Y-%m-%d}" if key.last_used_at else "",
        )
    return table
