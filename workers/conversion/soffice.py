"""Converts office files with LibreOffice: a fresh process with a fresh profile for each file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Final

from ingestion import metrics
from ingestion.errors import ChildStalled, ConversionFailed, ConverterMissing, IngestError, WorkerFault
from ingestion.formats.media_types import MediaType
from ingestion.sandbox.failures import clean
from ingestion.settings import ConversionSettings

INSTALL: Final = "apt-get install -y --no-install-recommends libreoffice-writer libreoffice-calc libreoffice-impress"
_WALL_FACTOR: Final = 3.0
_SHORTEST_WALL_S: Final = 60.0
"""A start takes seconds, and more on a busy machine."""
_LEAST_FILE_BYTES: Final = 64 * 1024**2
"""LibreOffice writes temporary files as well."""
_END_S: Final = 10.0
_ALMOST: Final = 0.9
"""After this part of the CPU time, the limit is what ended LibreOffice, whatever its status is."""
_LOG_BYTES: Final = 4096
_WRITE_ERROR: Final = "Class:Write"
"""LibreOffice's log has it where a write failed. It may end with status 0 then."""
_HOME: Final = "home"
"""The folder in the folder of a run that LibreOffice may write to. Log and CPU time are beside it."""
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; from workers.conversion.soffice_launcher import main; main()"
)

_WRITER: Final = "writer"
_FILTERS: Final[dict[MediaType, tuple[str, str | None]]] = {
    # the application that exports, and the import filter where the file's content does not decide it
    MediaType.DOCX: (_WRITER, None),
    MediaType.ODT: (_WRITER, None),
    MediaType.RTF: (_WRITER, None),
    MediaType.TEXT: (_WRITER, "Text (encoded):UTF8,LF,,,"),
    MediaType.HTML: (_WRITER, "HTML (StarWriter)"),
    MediaType.PPTX: ("impress", None),
    MediaType.ODP: ("impress", None),
    MediaType.XLSX: ("calc", None),
    MediaType.ODS: ("calc", None),
    MediaType.CSV: ("calc", "Text - txt - csv (StarCalc):44,34,76,1"),  # comma, quote, UTF-8
}
_SETTINGS: Final = (
    ("Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Common/Security/Scripting", "DisableActiveContent", "true"),
    ("Writer/Content/Update", "Link", "2"),  # never
    ("Calc/Content/Update", "Link", "2"),
    ("Common/Misc", "FirstRun", "false"),
    ("Common/Save/Document", "CreateBackup", "false"),
    ("Common/Cache/Writer", "OLE_Objects", "0"),
)
_ITEM: Final = (
    '<item oor:path="/org.openoffice.Office.{}"><prop oor:name="{}" oor:op="fuse"><value>{}</value></prop></item>'
)
_PROFILE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<oor:items xmlns:oor="http://openoffice.org/2001/registry" '
    'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{}</oor:items>\n'
)


class LibreOffice:
    """Implements the port OfficeConverter. `most_pages`: of a longer document one page more is written."""

    def __init__(self, settings: ConversionSettings, *, most_pages: int) -> None:
        self._settings = settings
        self._most_pages = most_pages
        self._most_file_bytes = max(settings.conversion_max_bytes, _LEAST_FILE_BYTES)

    async def convert(self, source: Path, media_type: str, target: Path) -> None:
        program = _program(self._settings.soffice_path)
        folder = target.parent / "libreoffice"
        try:
            await asyncio.to_thread(_prepare, folder, source)
            status = await self._run(program, folder, source.name, MediaType(media_type))
            if _has_crashed(status):  # now and then without a cause in the file
                await asyncio.to_thread(_prepare, folder, source)
                status = await self._run(program, folder, source.name, MediaType(media_type))
            made = folder / _HOME / "out" / f"{source.stem}.pdf"
            if not _is_own_file(made, folder) or not made.stat().st_size:
                raise self._failure(status, folder)
            if made.stat().st_size > self._settings.conversion_max_bytes:
                raise ConversionFailed(
                    f"the PDF has {made.stat().st_size} bytes; PAGEMILL_CONVERSION_MAX_BYTES allows "
                    f"{self._settings.conversion_max_bytes}"
                )
            made.replace(target)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run(self, program: str, folder: Path, name: str, media_type: MediaType) -> int:
        """The exit status, negative or above 128 for a signal. Raises ChildStalled."""
        settings = self._settings
        wall_s = max(_SHORTEST_WALL_S, _WALL_FACTOR * settings.conversion_timeout_s)
        request = {
            "worker": os.getpid(),
            "program": program,
            "arguments": _arguments(name, media_type, self._most_pages),
            "folder": str(folder / _HOME),
            "report": str(folder / "cpu_s"),
            "memory_bytes": settings.conversion_memory_bytes,
            "cpu_s": ceil(settings.conversion_timeout_s),
            "file_bytes": self._most_file_bytes,
        }
        path = [one or str(Path.cwd()) for one in sys.path]
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(request), *path,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env={}, cwd="/", start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(wall_s):
                status = await process.wait()
        except TimeoutError as error:
            raise ChildStalled(
                f"LibreOffice was not done within {wall_s:g} s: this machine has too much to do, or LibreOffice hangs"
            ) from error
        finally:
            await _end(process)
            metrics.STAGE_CPU.labels("convert").inc(_cpu_s(folder))
        return status

    def _failure(self, status: int, folder: Path) -> IngestError:
        """WorkerFault where the disk has no room for the largest PDF: LibreOffice fails in many ways then."""
        settings, said = self._settings, _log_of(folder)
        ended_by = status - 128 if status > 128 else -status
        if ended_by in (signal.SIGXCPU, signal.SIGKILL) or _cpu_s(folder) > _ALMOST * settings.conversion_timeout_s:
            return ConversionFailed(
                f"the file was not converted within {settings.conversion_timeout_s:g} s of CPU time, or needs too "
                "much memory: see PAGEMILL_CONVERSION_TIMEOUT_S and PAGEMILL_CONVERSION_MEMORY_BYTES"
            )
        free_bytes = shutil.disk_usage(folder).free
        if ended_by != signal.SIGXFSZ and free_bytes < self._most_file_bytes:
            return WorkerFault(
                f"LibreOffice failed, and the worker's folder for temporary files has {free_bytes} bytes of disk: it "
                f"needs {self._most_file_bytes}"
            )
        if ended_by == signal.SIGXFSZ or _WRITE_ERROR in said:
            return ConversionFailed("the PDF is larger than PAGEMILL_CONVERSION_MAX_BYTES allows")
        if status:
            return ConversionFailed(
                f"LibreOffice ended with status {status}: the file is damaged, or needs more memory than "
                f"PAGEMILL_CONVERSION_MEMORY_BYTES allows{': ' if said else ''}{said}"
            )
        return ConversionFailed("LibreOffice cannot open the file: it is damaged, or needs a password")


def _program(name: str) -> str:
    """The program that stays the parent of LibreOffice's processes. Raises ConverterMissing."""
    found = shutil.which(name)
    if found is None:
        raise ConverterMissing(
            f"LibreOffice ({name}) is not installed on this worker: run `{INSTALL}`, or set PAGEMILL_GOTENBERG_URL; "
            "then replay the document"
        )
    beside = Path(found).resolve().with_name("oosplash")
    return str(beside if beside.is_file() else Path(found).resolve())


def _has_crashed(status: int) -> bool:
    return status - 128 in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


def _prepare(folder: Path, source: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / _HOME
    profile = home / "profile" / "user"
    profile.mkdir(parents=True)
    items = "".join(_ITEM.format(*one) for one in _SETTINGS)
    (profile / "registrymodifications.xcu").write_text(_PROFILE.format(items), "utf-8")
    os.link(source, home / source.name)


def _is_own_file(path: Path, folder: Path) -> bool:
    """False for a link that leads elsewhere: a hostile file may have taken LibreOffice over."""
    return path.is_file() and path.resolve() == folder.resolve() / path.relative_to(folder)


def _arguments(name: str, media_type: MediaType, most_pages: int) -> list[str]:
    """Command line of LibreOffice. The range ends one page above the limit, so that too long files are noticed."""
    application, import_filter = _FILTERS[media_type]
    pages = json.dumps({"PageRange": {"type": "string", "value": f"1-{most_pages + 1}"}}, separators=(",", ":"))
    return [
        "-env:UserInstallation=file://{folder}/profile",
        *("--headless", "--norestore", "--nologo", "--nolockcheck", "--nodefault"),
        *([f"--infilter={import_filter}"] if import_filter else []),
        *("--convert-to", f"pdf:{application}_pdf_Export:{pages}", "--outdir", "{folder}/out"),
        f"{{folder}}/{name}",
    ]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the launcher and its process group. LibreOffice dies with its launcher."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()


def _log_of(folder: Path) -> str:
    with (folder / "log").open("rb") as log:
        lines = log.read(_LOG_BYTES).decode(errors="replace").splitlines()
    return clean(" ".join(line for line in lines if "javaldx" not in line))


def _cpu_s(folder: Path) -> float:
    try:
        return float((folder / "cpu_s").read_text())
    except (OSError, ValueError):
        return 0.0
