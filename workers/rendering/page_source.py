"""Renders a PDF window by window, in child processes that the worker can kill.

    window -> short try with the chosen engine -> pages
                  | a crash, out of memory or CPU time, a page not rendered
                  v
              each such page alone: a long try with each engine in turn -> page, or an error that names the page
                  | a page that is blank, or lacks letters
                  v
              that page alone, with the other engine -> the page of the engine that draws more

The fast path renders a whole window in one call. If that call fails, each page of the window is rendered alone, so
that one bad page only delays the other pages. All long tries of a page share PAGEMILL_RENDER_TIMEOUT_S: if one engine
uses all of it, the next engine is not tried.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from math import inf
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import map_ordered
from ingestion.errors import CorruptPdf, PageRenderFailed, RenderTimeout
from ingestion.model import Note, NoteKind, Page
from ingestion.pdf.pdfium import PdfLayout
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import WALL_FACTOR, Sandbox
from ingestion.settings import RenderSettings
from workers.rendering import poppler
from workers.rendering.answers import check_answer, max_answer_bytes
from workers.rendering.dpi import PagePlan, document_dpi, plan_page
from workers.rendering.fonts import InstalledFonts, script_of
from workers.rendering.lanes import Lanes, TryKind, try_cpu_s
from workers.rendering.outcomes import better, blank_page, document_notes, page_notes
from workers.rendering.render_child import Engine, RenderedPage, RenderRequest, RenderResult, render_pages

log = structlog.get_logger(__name__)

_WINDOW_PX: Final = 32_000_000
"""Most pixels of a window with more than one page: eight A4 pages at 200 DPI. Eight pages of the largest size would
take 400 MB for each window that is in progress."""

_MOST_SECOND_TRIES: Final = 8
"""Second tries of a document that may be in vain. After them, its pages stay as the first engine draws them."""

_WINDOWS_AHEAD: Final = 2
"""Windows of one document that render at the same time, if children are free."""


class PdfPageSource:
    """Implements the port PageSource. Keeps only the page sizes of the document in memory."""

    def __init__(
        self,
        path: Path,
        layout: PdfLayout,
        settings: RenderSettings,
        lanes: Lanes,
        engines: tuple[Engine, ...],
        fonts: InstalledFonts,
        *,
        with_pixels: bool,
        caller: str,
    ) -> None:
        self._path = path
        self._caller = caller
        self._sizes_pt = layout.sizes_pt
        self._is_damaged = layout.is_damaged
        self._fonts = fonts
        self._drawn = 0
        self._second_tries_left = _MOST_SECOND_TRIES
        self._first_cause = ""
        self.notes = document_notes(layout)
        self._settings = settings
        self._lanes = lanes
        self._engines = engines
        self._with_pixels = with_pixels
        self._next_try = TryKind.QUICK
        self._dpi = document_dpi(settings.dpi_policy, len(layout.sizes_pt), settings.fixed_dpi)
        self.render_calls = 0

    @property
    def pages(self) -> int:
        return len(self._sizes_pt)

    @property
    def dpi(self) -> int:
        return self._dpi

    async def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        async with aclosing(map_ordered(self._window, self._plans(first_page), width=_WINDOWS_AHEAD)) as windows:
            async for window in windows:
                yield window
        if first_page == 1 and not self._drawn:
            raise CorruptPdf(f"no page of the damaged file can be read: {self._first_cause}")

    async def _plans(self, first_page: int) -> AsyncIterator[list[PagePlan]]:
        window: list[PagePlan] = []
        for number in range(first_page, self.pages + 1):
            plan = self._plan(number)
            is_full = len(window) == self._settings.render_window_pages
            if window and (is_full or sum(one.pixels for one in window) + plan.pixels > _WINDOW_PX):
                yield window
                window = []
            window.append(plan)
        if window:
            yield window

    def _plan(self, number: int) -> PagePlan:
        width_pt, height_pt = self._sizes_pt[number - 1]
        if not (0 < width_pt < inf and 0 < height_pt < inf):
            raise PageRenderFailed(
                f"page {number} cannot be rendered: its size is {width_pt:g} x {height_pt:g} points"
            )
        return plan_page(number, width_pt, height_pt, self._dpi, self._settings.max_page_px)

    async def _window(self, plans: Sequence[PagePlan]) -> list[Page]:
        with metrics.CONVERSION.time():
            return await self._pages(plans)

    async def _pages(self, plans: Sequence[PagePlan]) -> list[Page]:
        rendered = await self._short_try(plans)
        return [await self._finished(plan, rendered.get(plan.number)) for plan in plans]

    async def _finished(self, plan: PagePlan, rendered: RenderedPage | None) -> Page:
        """The page of the engine that draws most of it. A page that the file lacks is white, and has a note."""
        if rendered is None:
            rendered = await self._render_alone(plan, self._engines)
        if rendered is not None and await self._is_doubtful(rendered):
            # Taken before the wait: other windows of the document ask, too. A page that gets better gives it back.
            self._second_tries_left -= 1
            with suppress(PageRenderFailed, RenderTimeout):
                chosen = better(rendered, await self._render_alone(plan, self._engines[1:]))
                self._second_tries_left += chosen is not rendered
                rendered = chosen
        if rendered is None or (self._is_damaged and rendered.is_blank and not rendered.text):
            self._first_cause = self._first_cause or f"page {plan.number} is missing or damaged"
            damaged = Note.of_page(NoteKind.DAMAGED_PAGE, plan.number)
            return _page(plan.number, rendered or blank_page(plan, with_pixels=self._with_pixels), (damaged,))
        self._drawn += 1
        missing = await self._fonts.missing_scripts(rendered.undrawn + rendered.substituted)
        return _page(plan.number, rendered, page_notes(plan.number, rendered, missing))

    async def _is_doubtful(self, rendered: RenderedPage) -> bool:
        """Whether another engine may draw more of the page."""
        if len(self._engines) < 2 or self._second_tries_left <= 0:
            return False
        if rendered.is_incomplete or (rendered.is_blank and not rendered.undrawn):
            return True
        missing = await self._fonts.missing_scripts(rendered.undrawn)
        return any(script_of(letter) not in missing for letter in rendered.undrawn)

    async def _short_try(self, plans: Sequence[PagePlan]) -> dict[int, RenderedPage]:
        """Returns the pages that the first engine renders in a quick or a slow try.

        Returns an empty dict if the whole window fails. The caller then renders each page alone, to find the bad one.
        """
        engine = self._engines[0]
        while (kind := self._next_try) is not TryKind.LONG:
            async with self._lanes.short_try(self._caller, kind) as sandbox:
                if self._next_try is not kind:
                    continue  # another window of this document failed during the wait
                cpu_s = min(try_cpu_s(plans, kind, engine), self._settings.render_timeout_s)
                try:
                    return (await self._render(sandbox, plans, engine, cpu_s=cpu_s, keep=True)).pages
                except ChildTimeout as error:
                    cause: Exception = error
                    self._next_try = TryKind.SLOW if kind is TryKind.QUICK else TryKind.LONG
                except ChildCrashed as error:
                    cause, self._next_try = error, TryKind.LONG
            log.info(
                "pages need longer tries", path=str(self._path), first_page=plans[0].number,
                next_try=self._next_try.value, cause=str(cause),
            )  # fmt: skip
        return {}

    async def _render_alone(self, plan: PagePlan, engines: Sequence[Engine]) -> RenderedPage | None:
        """Render one page in long tries, with each engine in turn. None where all find the page missing or damaged.

        Raises PageRenderFailed or RenderTimeout after every engine failed or the CPU time of the page is used up, and
        ChildStalled if the child got too little CPU time to tell.
        """
        left_s = self._settings.render_timeout_s
        causes: list[str] = []
        timeouts = refusals = 0
        for engine in engines:
            try:
                async with self._lanes.long_try(self._caller, engine) as sandbox:
                    began_s = time.monotonic()
                    result = await self._render(sandbox, [plan], engine, cpu_s=left_s, keep=False)
            except ChildTimeout:
                causes.append(f"{engine}: not done within {left_s:.3g} s of CPU time")
                timeouts += 1
                left_s = 0.0
            except ChildCrashed as error:
                # The CPU time of a crashed child is unknown, but it is at most the elapsed time.
                left_s -= time.monotonic() - began_s
                causes.append(f"{engine}: {error}")
            else:
                left_s -= sum(result.cpu_s.values())
                if plan.number in result.pages:
                    return result.pages[plan.number]
                causes.append(f"{engine}: {result.refused[plan.number]}")
                refusals += 1
            log.warning("page not rendered", path=str(self._path), page_number=plan.number, cause=causes[-1])
            if left_s <= 0:
                break
        if refusals == len(engines):
            return None
        kind = RenderTimeout if timeouts == len(causes) else PageRenderFailed
        raise kind(f"page {plan.number} cannot be rendered: {'; '.join(causes)}")

    async def _render(
        self, sandbox: Sandbox, plans: Sequence[PagePlan], engine: Engine, *, cpu_s: float, keep: bool
    ) -> RenderResult:
        settings = self._settings
        request = RenderRequest(
            path=str(self._path.absolute()),
            pages=tuple(plans),
            engine=engine,
            image_format=settings.image_format,
            image_quality=settings.image_quality,
            max_text_chars=settings.max_text_chars,
            with_pixels=self._with_pixels,
        )
        try:
            answer = await sandbox.run(
                render_pages,
                request,
                timeout_s=cpu_s,
                # On a busy machine, a try with little CPU time may take as much wall time as a long try.
                wall_s=WALL_FACTOR * settings.render_timeout_s,
                file=request.path,
                answer_bytes=max_answer_bytes(request),
                programs=poppler.programs(request.path) if engine == "poppler" else None,
                keep=keep,
            )
        finally:
            self.render_calls += 1
        result = check_answer(answer, request)
        for stage, used_s in result.cpu_s.items():
            metrics.STAGE_CPU.labels(stage).inc(used_s)
        return result


def _page(number: int, rendered: RenderedPage, notes: tuple[Note, ...]) -> Page:
    pixels = None
    if rendered.pixels is not None:
        # A grey page has one channel. Broadcasting it to three needs no copy.
        shape = (rendered.height_px, rendered.width_px)
        channels = np.frombuffer(rendered.pixels, dtype=np.uint8).reshape(*shape, -1)
        pixels = np.broadcast_to(channels, (*shape, 3))
    return Page(
        number,
        rendered.width_px,
        rendered.height_px,
        rendered.image,
        rendered.text,
        pixels,
        rendered.image_format,
        notes=notes,
        words=rendered.words,
    )
