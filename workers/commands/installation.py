"""The stores and the broker themselves, for commands that work on them past the API."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from ingestion.bootstrap import Services, open_services
from ingestion.errors import DependencyUnavailable
from ingestion.settings import Settings
from workers.stack import datadir
from workers.stack.environment import replace_settings
from workers.stack.stack_file import environment_of


@asynccontextmanager
async def open_installation(data_dir: Path | None) -> AsyncIterator[Services]:
    """Of the stack on `data_dir`; without one, of the stack on ./.pagemill, or else of the settings.

    Raises DependencyUnavailable where no stack runs on `data_dir`. Log lines go to standard error from then on:
    standard output is for the command's answer.
    """
    stack = datadir.DataDir(data_dir or datadir.DEFAULT).read_stack()
    if stack is None and data_dir is not None:
        command = f"pagemill up --data-dir {shlex.quote(str(data_dir))}"
        raise DependencyUnavailable("the stack", f"none runs on {data_dir}; start it with `{command}`")
    if stack is not None:
        replace_settings(os.environ, environment_of(stack))
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    async with open_services(Settings()) as services:
        yield services
