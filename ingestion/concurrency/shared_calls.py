"""Calls that wait for their turn, answered together by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class SharedCalls(Generic[Q, A]):
    """Runs at most `at_once` shared calls at a time. Questions are answered in the order of their arrival.

    A shared call takes the question that has waited longest, and of the others each that fits: `fits` gets the
    questions that are taken, at least one, and the next question. `run` returns one answer for each question, in
    order. What `run` raises is raised to all callers. A question whose caller has left is left out.

    It differs from `RequestBatcher` in what shares a call, in how many calls run, and in that no question is asked
    again alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        *,
        at_once: int,
        fits: Callable[[Sequence[Q], Q], bool],
    ) -> None:
        self._run = run
        self._fits = fits
        self._free = at_once
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, questions: Sequence[Q]) -> list[asyncio.Future[A]]:
        """The future answers, in the order of `questions`. A caller that waits no more cancels them."""
        loop = asyncio.get_running_loop()
        asked = [(question, loop.create_future()) for question in questions]
        self._waiting += asked
        self._start()
        return [answer for _, answer in asked]

    def _start(self) -> None:
        while self._free and (together := self._take()):
            # A context of its own: a shared call has the time budget of none of its callers.
            task = asyncio.create_task(self._call(together), context=Context())
            self._free -= 1
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._start()

    def _take(self) -> list[tuple[Q, asyncio.Future[A]]]:
        taken, left = list[tuple[Q, asyncio.Future[A]]](), list[tuple[Q, asyncio.Future[A]]]()
        for question, answer in self._waiting:
            if answer.done():
                continue
            is_taken = not taken or self._fits([one for one, _ in taken], question)
            (taken if is_taken else left).append((question, answer))
        self._waiting = left
        return taken

    async def _call(self, together: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._run([question for question, _ in together])
            answered = list(zip(together, answers, strict=True))
        except BaseException as error:
            for _, waiting in together:
                if not waiting.done():
                    waiting.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, waiting), answer in answered:
            if not waiting.done():
                waiting.set_result(answer)
