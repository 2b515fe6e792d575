"""What `pagemill dlq` does: find the stack, look through its dead letters, and do what is asked about them."""

from __future__ import annotations

import getpass
import os
import socket
from enum import StrEnum
from pathlib import Path

import anyio

from ingestion.bootstrap import Services
from ingestion.dead_letters import DeadLetter
from workers.commands.dlq.cli import Filters, State
from workers.commands.dlq.views import letter_json, letter_line, letter_report, letter_table, report_json
from workers.commands.installation import open_installation
from workers.commands.terminal import say, stdout, write_json_line
from workers.replay.replayer import Case, DeadLetterOffice, Note, Outcome, Selection, Standing, paced


class Action(StrEnum):
    REPLAY = "replay"
    DISCARD = "discard"

    @property
    def done(self) -> Standing:
        """What a letter is once this has been done."""
        return Standing.REPLAYED if self is Action.REPLAY else Standing.DISCARDED


def list_letters(filters: Filters, state: State, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound for an id that matches nothing, DependencyUnavailable."""
    cases = anyio.run(_find, _selection(filters, state), data_dir)
    if as_json:
        for case in cases:
            write_json_line(letter_json(case))
    elif cases:
        stdout().print(letter_table(cases))
        say(f"{len(cases)} dead letter(s)")
    else:
        say("no dead letters" if state is State.ALL else f"no dead letters that are {state.value}")


async def _find(selection: Selection, data_dir: Path | None) -> list[Case]:
    async with open_installation(data_dir) as services:
        return await _office(services).find(selection)


def show_letters(filters: Filters, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound for an id that matches nothing, DependencyUnavailable."""
    anyio.run(_show, _selection(filters, State.ALL), as_json, data_dir)


async def _show(selection: Selection, as_json: bool, data_dir: Path | None) -> None:
    async with open_installation(data_dir) as services:
        cases = await _office(services).find(selection)
        documents = await services.documents.known({case.letter.document_id for case in cases})
        for case in cases:
            document = documents.get(case.letter.document_id)
            story = await services.documents.history(case.letter.document_id)
            if as_json:
                write_json_line(report_json(case, document, story))
            else:
                stdout().print(letter_report(case, document, story))


def act(
    action: Action,
    filters: Filters,
    by: str,
    why: str,
    *,
    dry_run: bool,
    rate: float | None = None,
    as_json: bool,
    data_dir: Path | None,
) -> bool:
    """True where every letter meant is `action.done` now, or would be. `rate` is letters per second.

    Raises NotFound for an id that matches nothing, before anything is done, and DependencyUnavailable.
    """
    selection = _selection(filters, State.ALL if filters.ids else State.OPEN)
    note = Note(by or _me(), why)
    return anyio.run(_act, action, selection, note, dry_run, rate, as_json, data_dir)


async def _act(
    action: Action,
    selection: Selection,
    note: Note,
    dry_run: bool,
    rate: float | None,
    as_json: bool,
    data_dir: Path | None,
) -> bool:
    outcomes: list[Outcome] = []
    async with open_installation(data_dir) as services:
        office = _office(services)
        method = office.replay if action is Action.REPLAY else office.discard
        async for case in paced(await office.find(selection), None if dry_run else rate):
            outcome = Outcome(case, acted=False) if dry_run else await method(case.letter, note)
            outcomes.append(outcome)
            _tell(action, outcome, as_json)
    if not as_json:
        acted = sum(outcome.acted for outcome in outcomes)
        say(f"{len(outcomes)} dead letter(s), nothing done" if dry_run else f"{acted} {action.done.value}")
    good = {action.done, Standing.OPEN} if dry_run else {action.done}
    return all(outcome.case.standing in good for outcome in outcomes)


def _tell(action: Action, outcome: Outcome, as_json: bool) -> None:
    """What came of one letter, as soon as it is known. One that is still open has only been looked at."""
    standing = outcome.case.standing
    if standing is Standing.OPEN:
        words = f"would be {action.done.value}"
    elif outcome.acted:
        words = standing.value
    elif standing is Standing.ARCHIVED:
        words = f"archived: `pagemill collections restore {_collection_of(outcome.case.letter)}` comes first"
    else:
        words = f"{standing.value} already"
    if as_json:
        write_json_line({**letter_json(outcome.case), "outcome": words})
    else:
        say(letter_line(outcome.case.letter, words))


def _collection_of(letter: DeadLetter) -> str:
    return letter.job.collection if letter.job else ""


def _selection(filters: Filters, state: State) -> Selection:
    return Selection(
        ids=frozenset(filters.ids) if filters.ids else None,
        code=filters.code,
        collection=filters.collection,
        since=filters.since,
        until=filters.until,
        standings=None if state is State.ALL else frozenset({Standing(state.value)}),
    )


def _office(services: Services) -> DeadLetterOffice:
    return DeadLetterOffice(services.dead_letters, services.documents, services.queue, services.progress)


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
