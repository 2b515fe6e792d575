"""The folders whose files an agent may ingest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingestion.errors import BadRequest


class AllowedFolders:
    """Files below these folders, wherever links lead."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises BadRequest for one that is no folder."""
        for folder in folders:
            if not folder.is_dir():
                raise BadRequest(f"--allow {folder}: there is no such folder")
        self._folders = [folder.resolve() for folder in folders]

    def __bool__(self) -> bool:
        return bool(self._folders)

    def file(self, path: str) -> Path:
        """The real path of a file. Raises BadRequest where it is not in an allowed folder, or no file."""
        try:
            real = Path(path).expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._not_allowed(path) from error
        if not any(real.is_relative_to(folder) for folder in self._folders) or not real.is_file():
            raise self._not_allowed(path)
        return real

    def _not_allowed(self, path: str) -> BadRequest:
        """The same error for all causes, so that no answer tells which files exist elsewhere."""
        folders = ", ".join(map(str, self._folders))
        return BadRequest(f"{path[:200]!r} is not a file below an allowed folder ({folders})")
