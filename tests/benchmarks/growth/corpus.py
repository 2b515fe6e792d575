"""The pages and questions of a run, read from files of 64 pages one after another, never all at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks.growth.projection import Projection
from tests.benchmarks.manuals import (
    DIM,
    FINGERPRINT,
    QUESTIONS_FILE,
    ManualPage,
    Question,
    load_questions,
    numbers_with_text,
    page_ranges,
    read_pages,
    vectors_folder,
)

_FIT_PAGES: Final = 1024
_SEED: Final = "growth"


class PageName(NamedTuple):
    """A page of a manual; pages count from 1."""

    manual: str
    page_number: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The pages of one file of vectors that have text."""

    path: Path
    numbers: range
    names: Sequence[PageName]


class Corpus:
    """The first `size` pages with text of all manuals, and the questions whose right page is one of them."""

    def __init__(self, paths: Sequence[Path], size: int, dim: int = DIM) -> None:
        """Raises SystemExit where the manuals have fewer pages, or where pages have not been embedded yet."""
        repeated = [name for name, count in Counter(path.name for path in paths).items() if count > 1]
        if repeated:
            raise SystemExit(f"two manuals are called {repeated[0]!r}: rename one of them")
        self._parts: list[_Part] = []
        for path in paths:
            self._parts += _parts_of(path, size - sum(len(part.names) for part in self._parts))
        self.names = [name for part in self._parts for name in part.names][:size]
        if len(self.names) < size:
            raise SystemExit(f"the manuals have {len(self.names)} pages with text, but {size} are asked for")
        self.dim = dim
        self._projection: Projection | None = None
        if dim != DIM:
            self._projection = Projection.fit(self.read(0, min(size, _FIT_PAGES)), dim)
        self._questions = self._load_questions()

    @property
    def fingerprint(self) -> str:
        """The model of the vectors."""
        return FINGERPRINT if self._projection is None else f"{FINGERPRINT}-pca{self.dim}"

    def read(self, start: int, end: int) -> Iterator[list[ManualPage]]:
        """The pages from index `start` to before `end` of `names`, at most 64 at a time."""
        first = 0
        for part in self._parts:
            wanted = set(part.names[max(0, start - first) : max(0, end - first)])
            first += len(part.names)
            if wanted:
                pages = [p for p in read_pages(part.path, part.numbers) if (p.manual, p.page_number) in wanted]
                yield [self._projected(page) for page in pages]

    def questions(self, size: int, count: int) -> list[Question]:
        """`count` questions about the first `size` pages, in an order that is the same in every run.

        A larger collection keeps those questions of a smaller one that the order does not replace.
        """
        there = set(self.names[:size])
        return [q for q in self._questions if (q.manual, q.page_number) in there][:count]

    def _load_questions(self) -> list[Question]:
        """All questions with one right page among all pages, in a random order that depends on the titles alone."""
        loaded, there = [], set(self.names)
        for path in dict.fromkeys(part.path for part in self._parts):
            file = vectors_folder(path) / QUESTIONS_FILE
            loaded += load_questions([path]) if file.exists() else []
        titles = Counter(question.text for question in loaded)
        known = [q for q in loaded if titles[q.text] == 1 and (q.manual, q.page_number) in there]
        if not known:
            raise SystemExit("no title of the manuals' outlines stands on a page of the collection")
        known.sort(key=lambda q: hashlib.sha256(f"{_SEED} {q.text}".encode()).digest())
        if self._projection is None:
            return known
        return [replace(question, vectors=self._projection.apply(question.vectors)) for question in known]

    def _projected(self, page: ManualPage) -> ManualPage:
        if self._projection is None:
            return page
        return replace(page, vectors=self._projection.apply(page.vectors))


def _parts_of(path: Path, most: int) -> Iterator[_Part]:
    """The parts of a manual that have its first `most` pages with text."""
    found = 0
    for numbers in page_ranges(path):
        if found >= most:
            return
        try:
            names = [PageName(path.name, number) for number in numbers_with_text(path, numbers)]
        except FileNotFoundError:
            raise SystemExit(
                f"pages {numbers.start} to {numbers.stop - 1} of {path.name} have no vectors yet: "
                f"run `python -m tests.benchmarks.manuals {path}` first"
            ) from None
        found += len(names)
        yield _Part(path, numbers, names)
