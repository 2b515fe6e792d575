"""The command line `pagemill`. Commands import heavy modules only when they run."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from ingestion.errors import IngestError, not_text
from workers.commands import embedder, janitor, migrate, plan, serve, topics, up, validate
from workers.commands.bench import cli as bench
from workers.commands.collections import cli as collections
from workers.commands.dlq import cli as dlq
from workers.commands.doctor import cli as doctor
from workers.commands.documents import cli as client
from workers.commands.keys import cli as keys
from workers.commands.mcp import cli as mcp

_INTERRUPTED = 130


class _CommandGroup(TyperGroup):
    """Prints an expected error as one line and exits with 1. An unexpected exception keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(_INTERRUPTED) from interrupt
        except UnicodeEncodeError as error:
            if not _is_argument(error):
                raise
            typer.echo(f"error: an argument is not valid Unicode: {not_text(error)}", err=True)
            raise typer.Exit(1) from error
        except _expected_errors() as error:
            if _is_debugging():
                traceback.print_exc()
            typer.echo(f"error: {_in_words(error)}", err=True)
            raise typer.Exit(1) from error


def _is_argument(error: UnicodeEncodeError) -> bool:
    """True where the text is an argument with bytes that are not UTF-8; False where an output cannot encode it."""
    return "\udc80" <= error.object[error.start] <= "\udcff"


def _is_debugging() -> bool:
    return os.environ.get("PAGEMILL_LOG_LEVEL") == "debug"


def _expected_errors() -> tuple[type[Exception], ...]:
    """Called when an error has been raised: the library that raised it is imported by then."""
    expected: list[type[Exception]] = [IngestError]
    if httpx := sys.modules.get("httpx"):
        expected += [httpx.HTTPError, httpx.InvalidURL]
    if pydantic := sys.modules.get("pydantic"):
        expected.append(pydantic.ValidationError)
    if pydantic_settings := sys.modules.get("pydantic_settings"):
        expected.append(pydantic_settings.SettingsError)
    return tuple(expected)


def _in_words(error: Exception) -> str:
    if isinstance(error, IngestError):
        return error.message
    if (pydantic := sys.modules.get("pydantic")) and isinstance(error, pydantic.ValidationError):
        return "; ".join(_setting_in_words(found) for found in error.errors())
    return f"{error}" or type(error).__name__


def _setting_in_words(found: Any) -> str:
    """A check of several settings together has no location: its message names them."""
    message = found["msg"].removeprefix("Value error, ")
    return f"PAGEMILL_{str(found['loc'][0]).upper()}: {message}" if found["loc"] else message


app = typer.Typer(
    name="pagemill",
    cls=_CommandGroup,
    help="Ingest PDFs and find their pages by what they show and say.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(client.ingest)
app.command()(client.search)
app.command()(client.status)
app.command()(client.cancel)
app.command()(client.delete)
app.add_typer(dlq.app, name="dlq")
app.add_typer(collections.app, name="collections")
app.add_typer(keys.app, name="keys")
app.add_typer(topics.app, name="topics")
app.command()(migrate.migrate)
app.add_typer(serve.app, name="serve")
app.add_typer(embedder.app, name="embedder")
app.command()(janitor.janitor)
app.command()(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.command()(validate.validate)
app.command()(plan.plan)
app.command()(mcp.mcp)


def main() -> None:
    if not _is_debugging():
        # The error's line says what client libraries would log. `serve` sets up logging itself.
        logging.getLogger().addHandler(logging.NullHandler())
    app()


if __name__ == "__main__":
    main()
