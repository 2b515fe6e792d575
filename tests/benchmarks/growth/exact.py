"""Exact MaxSim of all questions with all pages, page by page: the reference of recall."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.growth.corpus import PageName
from tests.benchmarks.manuals import ManualPage, Question


class ExactScores:
    """Keeps one score for each question and page, and no vectors of pages."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._row_of = {question.text: row for row, question in enumerate(questions)}
        self._tokens = np.concatenate([question.vectors for question in questions])  # (all_query_tokens, dim)
        lengths = [len(question.vectors) for question in questions]
        self._starts = [0, *accumulate(lengths[:-1])]
        self._names: list[PageName] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, pages: Sequence[ManualPage]) -> None:
        """Score these pages."""
        for page in pages:
            best = (page.vectors @ self._tokens.T).max(axis=0)  # (all_query_tokens,)
            self._scores.append(np.add.reduceat(best, self._starts))  # (questions,)
            self._names.append(PageName(page.manual, page.page_number))

    def best(self, question: Question, count: int) -> list[PageName]:
        """The `count` best of the pages added so far."""
        row = self._row_of[question.text]
        scores = np.array([of_page[row] for of_page in self._scores])
        return [self._names[i] for i in np.argsort(-scores, kind="stable")[:count]]
