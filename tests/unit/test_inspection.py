"""The inspector of uploads: fair turns, and no reading of page content."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ingestion.errors import CorruptPdf
from ingestion.pdf.confined import MAGIC, PdfTooSlow, inspect_pdf, measure_pdf, run_on_pdf
from ingestion.pdf.inspector import FIRST_LOOK_S, Inspector
from ingestion.pdf.pdfium import PdfInfo, read_info, read_layout
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from tests.support.pdfs import form_cycle_pdf
from tests.support.uploads import make_upload
from tests.support.waiting import settled

MIB = 1024**2


class Recorded:
    """A fake Sandbox: it returns or raises scripted results, and keeps the calls."""

    def __init__(self, *outcomes: Exception | PdfInfo) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[dict[str, Any]] = []

    async def run(self, function: Any, *args: Any, **limits: Any) -> Any:
        self.calls.append({"path": args[0], **limits})
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Held:
    """In place of a Sandbox: slow files run out of the time of a first look, and then stay until they are let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.seen: list[str] = []
        self.long_looks = 0
        self.most_long_looks = 0

    async def run(self, function: Any, path: str, *args: Any, timeout_s: float, **limits: Any) -> PdfInfo:
        self.seen.append(Path(path).name)
        if "slow" not in path:
            return PdfInfo(1)
        if timeout_s == FIRST_LOOK_S:
            raise ChildTimeout("too long for a first look")
        self.long_looks += 1
        self.most_long_looks = max(self.most_long_looks, self.long_looks)
        try:
            await self.let_go.wait()
        finally:
            self.long_looks -= 1
        return PdfInfo(2)


def inspector(sandbox: Any, timeout_s: float = 30.0) -> Inspector:
    return Inspector(sandbox, processes=2, max_pages=100, timeout_s=timeout_s)


def stored(tmp_path: Path, name: str = "file.pdf", content: bytes = MAGIC) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


async def test_inspection_does_not_read_page_content(tmp_path: Path) -> None:
    """A form that contains itself takes gigabytes to load; these limits would not do for a hundredth of it."""
    path = stored(tmp_path, content=form_cycle_pdf())
    sandbox = Sandbox(processes=1, memory_bytes=192 * MIB)
    assert (await inspect_pdf(sandbox, path, max_pages=10, timeout_s=0.25, wall_s=60)).pages == 1
    assert (await measure_pdf(sandbox, path, max_pages=10, timeout_s=0.25, wall_s=60)).sizes_pt == [(595.0, 842.0)]


def test_a_claim_of_200_000_pages_is_not_believed(tmp_path: Path) -> None:
    content = make_upload(3).replace(b"/Count 3", b"/Count 200000")
    path = str(stored(tmp_path, content=content))
    assert read_info(path, 3).pages == 3
    assert len(read_layout(path, 3, True).sizes_pt) == 3


async def test_a_file_that_killed_its_reader_is_not_given_to_another(tmp_path: Path) -> None:
    sandbox = Recorded(ChildCrashed("died of SIGABRT"))
    with pytest.raises(CorruptPdf, match="crashed its reader: died of SIGABRT"):
        await inspector(sandbox).inspect(stored(tmp_path), caller="c")
    assert len(sandbox.calls) == 1
    with pytest.raises(CorruptPdf):
        await run_on_pdf(Recorded(ChildCrashed("x")), read_info, stored(tmp_path), 10, timeout_s=1)  # type: ignore[arg-type]


async def test_a_file_that_exceeds_the_first_look_gets_the_full_limit_once(tmp_path: Path) -> None:
    sandbox = Recorded(ChildTimeout("first"), PdfInfo(7))
    assert (await inspector(sandbox).inspect(stored(tmp_path), caller="c")).pages == 7
    assert [call["timeout_s"] for call in sandbox.calls] == [FIRST_LOOK_S, 30.0]
    assert {call["wall_s"] for call in sandbox.calls} == {300.0}, "a busy machine is no reason to give up sooner"
    sandbox = Recorded(ChildTimeout("first"), ChildTimeout("second"))
    with pytest.raises(PdfTooSlow, match="within 30 s of CPU time"):
        await inspector(sandbox).inspect(stored(tmp_path), caller="c")
    assert len(sandbox.calls) == 2


async def test_a_limit_below_that_of_a_first_look_is_the_limit(tmp_path: Path) -> None:
    sandbox = Recorded(ChildTimeout("first"))
    with pytest.raises(CorruptPdf, match=r"within 0\.1 s"):
        await inspector(sandbox, timeout_s=0.1).inspect(stored(tmp_path), caller="c")
    assert [call["timeout_s"] for call in sandbox.calls] == [0.1]


async def test_files_that_take_long_are_looked_into_one_at_a_time_and_delay_no_other(tmp_path: Path) -> None:
    sandbox = Held()
    looks = inspector(sandbox)
    slow = [
        asyncio.create_task(looks.inspect(stored(tmp_path, f"slow{number}.pdf"), caller="c")) for number in range(10)
    ]
    await settled()
    honest = await asyncio.wait_for(looks.inspect(stored(tmp_path, "honest.pdf"), caller="c"), 30)
    assert honest.pages == 1
    assert not any(one.done() for one in slow)
    sandbox.let_go.set()
    assert {info.pages for info in await asyncio.gather(*slow)} == {2}
    assert sandbox.most_long_looks == 1
