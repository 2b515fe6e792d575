"""From what a person types after `pagemill ingest` to a list of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ingestion.errors import BadRequest
from ingestion.formats.media_types import BY_SUFFIX

_GLOB_CHARACTERS = frozenset("*?[")


def expand(arguments: Iterable[str]) -> list[Path]:
    """The files that `arguments` name, in the order given, each real file once.

    A file argument is used under any name. A folder stands for the PDF files, pictures and office files below it, by
    their suffixes in any case, and a glob (`**` included) for such files and the folders that it matches; text files
    have to be named. A path that exists is never read as a glob. Raises BadRequest for an argument that leads to no
    file, and for a folder that cannot be read.
    """
    unique: dict[str, Path] = {}
    for argument in arguments:
        found = list(_expand_one(argument))
        if not found:
            raise BadRequest(f"no PDF files, pictures or office files in {argument}")
        for path in found:
            unique.setdefault(os.path.realpath(path), path)
    return list(unique.values())


def _expand_one(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from _documents_below(path)
    elif path.is_file():
        yield path
    elif os.path.lexists(path):
        raise BadRequest(f"{argument} is neither a file nor a folder")
    elif _GLOB_CHARACTERS.intersection(argument):
        yield from _glob(argument)
    else:
        raise BadRequest(f"{argument} does not exist")


def _glob(argument: str) -> Iterator[Path]:
    # The shell leaves ~ alone in a quoted glob. Path.glob does not follow links to folders, so it ends.
    pattern = Path(argument).expanduser()
    try:
        matches = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    except (ValueError, NotImplementedError) as error:
        raise BadRequest(f"{argument} is not a usable glob: {error}") from error
    for match in matches:
        if match.is_dir():
            yield from _documents_below(match)
        elif _is_document(match):
            yield match


def _documents_below(folder: Path) -> Iterator[Path]:
    """Every document below `folder`, links followed, each real folder visited once so that loops of links end."""
    visited: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        yield from (path for path in (Path(root, name) for name in sorted(files)) if _is_document(path))


def _is_document(path: Path) -> bool:
    media_type = BY_SUFFIX.get(path.suffix.lower())
    return media_type is not None and not media_type.is_text and path.is_file()


def _refuse(error: OSError) -> None:
    """os.walk passes over what it cannot read; files would go missing without a word."""
    raise BadRequest(f"{error.filename} cannot be read: {error.strerror}") from error
