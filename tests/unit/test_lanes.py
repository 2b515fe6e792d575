"""Render lanes: expensive pages do not delay other documents, and every try stays within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingestion.errors import PageRenderFailed, RenderTimeout
from ingestion.model import Page
from ingestion.pdf.pdfium import PdfLayout
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.settings import RenderSettings
from tests.support.admitted import admitted
from tests.support.waiting import settled
from workers.attempt.isolation import SharedExclusiveLock
from workers.consumer.admission import Admission
from workers.consumer.capacity import WeightedLimiter, suspended_capacity
from workers.rendering import fonts
from workers.rendering import lanes as lanes_module
from workers.rendering import page_source as page_source_module
from workers.rendering.dpi import plan_page
from workers.rendering.fonts import InstalledFonts
from workers.rendering.lanes import Lanes, TryKind, try_cpu_s
from workers.rendering.page_source import PdfPageSource
from workers.rendering.render_child import Engine, RenderedPage, RenderRequest, RenderResult

GIB = 1024**3
LIMIT_S = 60.0
ENGINES: tuple[Engine, ...] = ("pdfium", "poppler")


class FakeSandboxes:
    """Replaces all sandboxes of a worker.

    `bad` maps an engine and a page to the error of the child that renders the page. Long tries of the pages in `held`
    wait until `released` is set.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bad: dict[tuple[Engine, int], Exception] = {}
        self.looks: dict[Engine, dict[str, Any]] = {}
        """Fields of the pages that an engine renders."""
        self.held: set[int] = set()
        self.released = asyncio.Event()
        self.gate = asyncio.Event()
        """Every call waits until it is set."""
        self.gate.set()
        self.calls: list[tuple[Engine, list[int], bool]] = []
        """Engine, page numbers, and whether the call is a short try."""
        self.cpu_s: list[float] = []
        self.created: list[tuple[int, int]] = []
        self.long_tries = 0
        self.most_long_tries = 0
        monkeypatch.setattr(lanes_module, "Sandbox", self._sandbox)

    def _sandbox(self, *, processes: int, memory_bytes: int) -> FakeSandboxes:
        self.created.append((processes, memory_bytes))
        return self

    async def run(
        self, function: Any, request: RenderRequest, *, timeout_s: float, keep: bool, **limits: Any
    ) -> RenderResult:
        numbers = [plan.number for plan in request.pages]
        self.calls.append((request.engine, numbers, keep))
        self.cpu_s.append(timeout_s)
        await asyncio.sleep(0)
        await self.gate.wait()
        for number in numbers:
            if (error := self.bad.get((request.engine, number))) is not None:
                raise error
        if not keep:
            self.long_tries += 1
            self.most_long_tries = max(self.most_long_tries, self.long_tries)
            try:
                if self.held & set(numbers):
                    await self.released.wait()
            finally:
                self.long_tries -= 1
        look = self.looks.get(request.engine, {})
        pages = {plan.number: rendered(plan.width_px, plan.height_px) for plan in request.pages}
        return RenderResult(pages={number: replace(page, **look) for number, page in pages.items()})


def rendered(width_px: int, height_px: int) -> RenderedPage:
    return RenderedPage(width_px, height_px, b"\x89PNG\r\n\x1a\n....IHDR", "png", "", None)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSandboxes:
    return FakeSandboxes(monkeypatch)


def settings(**changes: Any) -> RenderSettings:
    chosen = {"dpi_policy": "fixed", "fixed_dpi": 72, "render_timeout_s": LIMIT_S, "render_window_pages": 2, **changes}
    return RenderSettings(**chosen)


def source(
    name: str,
    lanes: Lanes,
    sizes_pt: Sequence[tuple[float, float]],
    engines: tuple[Engine, ...] = ENGINES,
    caller: str = "",
) -> PdfPageSource:
    path = Path(f"/{name}.pdf")
    return page_source(path, sizes_pt, settings(), lanes, engines, caller=caller or name)


def page_source(
    path: Path,
    sizes_pt: Sequence[tuple[float, float]],
    chosen: RenderSettings,
    lanes: Lanes,
    engines: tuple[Engine, ...],
    *,
    caller: str,
) -> PdfPageSource:
    layout = PdfLayout(list(sizes_pt))
    return PdfPageSource(path, layout, chosen, lanes, engines, InstalledFonts(), with_pixels=False, caller=caller)


def pages(count: int) -> list[tuple[float, float]]:
    return [(595.0, 842.0)] * count


async def windows_of(pdf: PdfPageSource) -> list[list[Page]]:
    return [window async for window in pdf.windows(1)]


async def test_a_page_out_of_cpu_time_is_not_tried_with_the_other_engine(fake: FakeSandboxes) -> None:
    fake.bad = {("pdfium", 1): ChildTimeout("slow")}
    with pytest.raises(RenderTimeout, match=r"^page 1 cannot be rendered: pdfium: not done within 60 s of CPU time$"):
        await windows_of(source("bomb", Lanes(settings(), "pdfium"), pages(1)))
    assert fake.calls == [("pdfium", [1], True), ("pdfium", [1], True), ("pdfium", [1], False)]
    assert fake.cpu_s[0] < 0.5 < fake.cpu_s[1] < 2, "a quick try, and a slow one"
    assert fake.cpu_s[2] == LIMIT_S


@pytest.mark.parametrize("look", [{"is_blank": True}, {"is_incomplete": True}, {"undrawn": "Ж"}])
@pytest.mark.parametrize("is_better", [True, False])
async def test_second_tries_in_vain_are_limited(
    fake: FakeSandboxes, monkeypatch: pytest.MonkeyPatch, look: dict[str, Any], *, is_better: bool
) -> None:
    async def everything(letter: str) -> bool:
        return True

    monkeypatch.setattr(fonts, "has_font", everything)
    fake.looks = {"pdfium": look, "poppler": {} if is_better else look}
    found = await windows_of(source("doubtful", Lanes(settings(), "pdfium"), pages(40)))
    tries = [numbers for engine, numbers, _ in fake.calls if engine == "poppler"]
    assert len(tries) == (40 if is_better else page_source_module._MOST_SECOND_TRIES)
    told = [note.kind for window in found for page in window for note in page.notes]
    assert told == ["incomplete_page"] * 40 * ("is_incomplete" in look and not is_better)


async def test_a_page_that_the_other_engine_draws_in_part_has_the_text_of_the_first_and_a_note(
    fake: FakeSandboxes,
) -> None:
    fake.looks = {"poppler": {"is_blank": True, "text": "first"}, "pdfium": {"is_incomplete": True, "text": "other"}}
    pdf = source("partly", Lanes(settings(), "poppler"), pages(1), engines=("poppler", "pdfium"))
    [[page]] = await windows_of(pdf)
    assert page.text == "first"
    assert [note.kind for note in page.notes] == ["incomplete_page"]


async def test_a_page_that_crashes_its_child_gets_three_tries_within_its_limit(fake: FakeSandboxes) -> None:
    fake.bad = {("pdfium", 1): ChildCrashed("died of SIGABRT"), ("poppler", 1): ChildCrashed("died of SIGSEGV")}
    with pytest.raises(PageRenderFailed, match=r"pdfium: died of SIGABRT; poppler: died of SIGSEGV"):
        await windows_of(source("bomb", Lanes(settings(), "pdfium"), pages(1)))
    assert fake.calls == [("pdfium", [1], True), ("pdfium", [1], False), ("poppler", [1], False)]
    assert fake.cpu_s[2] < fake.cpu_s[1] == LIMIT_S, "the second engine gets the CPU time that the first one left"


async def test_a_document_that_needed_a_long_try_makes_no_more_short_tries(fake: FakeSandboxes) -> None:
    fake.bad = {("pdfium", 2): ChildTimeout("slow")}
    pdf = source("bomb", Lanes(settings(render_processes=1), "pdfium"), pages(6))
    numbers = []
    with pytest.raises(RenderTimeout):
        async for window in pdf.windows(1):
            numbers += [page.page_number for page in window]
    assert [numbers for _, numbers, is_first in fake.calls if is_first] == [[1, 2], [1, 2]]
    assert all(len(numbers) == 1 for _, numbers, is_first in fake.calls if not is_first)


async def test_long_tries_run_one_at_a_time_and_delay_no_short_tries(fake: FakeSandboxes) -> None:
    shared = Lanes(settings(), "pdfium")
    fake.bad = {("pdfium", number): ChildCrashed("too large") for number in (1,)}
    fake.held = {1}
    bombs = [
        asyncio.create_task(windows_of(source(f"bomb{number}", shared, pages(1)))) for number in range(5)
    ]  # pdfium crashes on page 1, and the long try with poppler waits
    await settled()
    honest = source("honest", shared, pages(7))
    async with asyncio.timeout(30):
        done = [page.page_number async for window in honest.windows(2) for page in window]
    assert done == [2, 3, 4, 5, 6, 7]
    assert not any(bomb.done() for bomb in bombs)
    fake.released.set()
    await asyncio.gather(*bombs)
    assert fake.most_long_tries == 1


async def test_documents_that_wait_for_their_long_tries_hold_no_capacity_of_the_worker(fake: FakeSandboxes) -> None:
    admission = Admission(WeightedLimiter(2))
    shared = Lanes(settings(), "pdfium", while_waiting=suspended_capacity)
    fake.bad, fake.held = {("pdfium", 1): ChildCrashed("too large")}, {1}

    async def job(name: str, first_page: int) -> int:
        async with admitted(admission, 16):
            return sum([len(window) async for window in source(name, shared, pages(20)).windows(first_page)])

    bombs = [asyncio.create_task(job(f"bomb{number}", 1)) for number in range(3)]
    await settled()
    async with asyncio.timeout(30):
        assert await job("honest", 2) == 19
    assert not any(bomb.done() for bomb in bombs)
    fake.released.set()
    async with asyncio.timeout(30):
        assert await asyncio.gather(*bombs) == [20] * 3
    assert fake.most_long_tries == 1


async def test_documents_with_many_long_tries_end_beside_one_that_must_run_alone(fake: FakeSandboxes) -> None:
    limiter = WeightedLimiter(2)
    admission = Admission(limiter)
    shared = Lanes(settings(), "pdfium", while_waiting=suspended_capacity)
    lock = SharedExclusiveLock()
    fake.bad = {("pdfium", number): ChildCrashed("too large") for number in (1, 2, 4, 5, 7)}

    async def job(name: str, count: int) -> int:
        async with admitted(admission, count), lock.exclusive() if name == "suspect 9" else lock.shared():
            return sum([len(window) async for window in source(name, shared, pages(count)).windows(1)])

    counts = [2, 3, 7, 8, 16, 17, 40] * 3
    async with asyncio.timeout(60):
        done = await asyncio.gather(*(job(f"suspect {number}", count) for number, count in enumerate(counts)))
    assert done == counts
    assert fake.most_long_tries == 1
    assert limiter._free_pages == limiter._suspendable_pages == 32


async def test_slow_documents_of_one_caller_delay_another_caller_by_one_try(fake: FakeSandboxes) -> None:
    shared = Lanes(settings(render_processes=1), "pdfium")
    fake.bad = {("pdfium", 1): ChildTimeout("slow")}
    fake.gate.clear()
    bombs = [windows_of(source(f"bomb{n}", shared, pages(1), caller="hostile")) for n in range(10)]
    running = [asyncio.create_task(one) for one in bombs]
    await settled()
    honest = asyncio.create_task(anext(aiter(source("honest", shared, pages(3), caller="other").windows(2))))
    await settled()
    begun = len(fake.calls)
    assert begun == 1, "the others wait for their turns"
    fake.gate.set()
    await asyncio.wait([honest, *running])
    assert [page.page_number for page in honest.result()] == [2, 3]
    before = fake.calls.index(("pdfium", [2, 3], True)) - begun
    assert before <= 2, "one quick and one slow try of the ten documents"
    assert [one.exception().__class__ for one in running] == [RenderTimeout] * 10


async def test_a_window_has_at_most_the_pixels_of_eight_ordinary_pages(fake: FakeSandboxes) -> None:
    sizes_pt = [*pages(3), (6000.0, 6000.0), (3500.0, 3500.0), (3500.0, 3500.0), *pages(3)]
    pdf = source("atlas", Lanes(settings(), "pdfium"), sizes_pt)
    windows = [[page.page_number for page in window] for window in await windows_of(pdf)]
    assert windows == [[1, 2], [3, 4], [5, 6], [7, 8], [9]]
    large = settings(max_page_px=10**8)
    lanes = Lanes(large, "pdfium")
    pdf = page_source(Path("/a.pdf"), sizes_pt, large, lanes, ENGINES, caller="a")
    windows = [[page.page_number for page in window] for window in await windows_of(pdf)]
    assert windows == [[1, 2], [3], [4], [5, 6], [7, 8], [9]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("processes", [1, 2, 8])
def test_all_children_together_stay_within_the_memory_budget(
    fake: FakeSandboxes, engine: Engine, processes: int
) -> None:
    Lanes(settings(render_processes=processes, render_memory_bytes=2 * GIB), engine)
    first, long_pdfium, long_poppler = fake.created
    with_poppler = 2  # poppler's process has the same memory limit as the child that waits for it
    first_bytes = first[0] * first[1] * (with_poppler if engine == "poppler" else 1)
    long_bytes = max(long_pdfium[0] * long_pdfium[1], with_poppler * long_poppler[0] * long_poppler[1])
    assert first_bytes + long_bytes <= (processes / 2 + 1) * 2 * GIB


def test_a_short_try_has_several_times_the_cpu_time_of_ordinary_pages() -> None:
    plan = plan_page(1, 595, 842, 200, 10**8)
    assert try_cpu_s([plan], TryKind.SLOW, "pdfium") == pytest.approx(1.4, abs=0.1)
    assert try_cpu_s([plan] * 8, TryKind.SLOW, "pdfium") == pytest.approx(7.6, abs=0.2)
    assert try_cpu_s([plan], TryKind.QUICK, "pdfium") == pytest.approx(0.35, abs=0.05)
