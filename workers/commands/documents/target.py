"""The address of the API for client commands: from a running local stack, or from the settings."""

from __future__ import annotations

import shlex
from pathlib import Path

from ingestion.client.target import Target
from ingestion.errors import BadRequest, DependencyUnavailable
from ingestion.settings import ApiSettings
from workers.stack import datadir


def find_target(data_dir: Path | None) -> Target:
    """The stack on `data_dir`; without one the stack on ./.pagemill, or else what PAGEMILL_API_URL and _KEY name.

    Raises DependencyUnavailable where none of these leads to an API, BadRequest for a stack.json that is none.
    """
    if data_dir is not None:
        start_command = f"pagemill up --data-dir {shlex.quote(str(data_dir))}"
        target = _running_stack(data_dir, start_command)
        if target is None:
            raise DependencyUnavailable("the stack", f"none runs on {data_dir}; start it with `{start_command}`")
        return target
    return _running_stack(datadir.DEFAULT, "pagemill up") or _configured()


def _running_stack(root: Path, start_command: str) -> Target | None:
    directory = datadir.DataDir(root)
    try:
        stack = directory.read_stack()
        if stack is None:
            return None
        return Target(str(stack["api_url"]), str(stack["api_key"]), f"start it with `{start_command}`", is_local=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"{directory.stack_file} does not describe a stack: {error!r}") from error


def _configured() -> Target:
    settings = ApiSettings()
    key = settings.api_key.get_secret_value()
    if not key:
        raise DependencyUnavailable(
            "the stack",
            f"none runs on {datadir.DEFAULT}; start one with `pagemill up`, "
            "or set PAGEMILL_API_URL and PAGEMILL_API_KEY",
        )
    return Target(settings.api_url, key, "check PAGEMILL_API_URL", is_local=False)
