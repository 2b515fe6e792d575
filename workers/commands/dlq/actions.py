"""The work of `pagemill dlq`: connect to the installation, find dead letters, show, replay or discard them."""

from __future__ import annotations

import getpass
import os
import socket
from enum import StrEnum
from pathlib import Path

import anyio

from ingestion.bootstrap import Services
from ingestion.dead_letters import DeadLetter
from ingestion.model import check_tenant
from ingestion.replay.entries import DeadLetterEntry, DeadLetterStatus
from ingestion.replay.replayer import Reason, Replayer, ReplayResult, paced
from ingestion.replay.selection import Selection
from workers.commands.dlq.filters import Filters, StatusOption
from workers.commands.dlq.views import letter_json, letter_line, letter_report, letter_table, place_of, report_json
from workers.commands.installation import open_installation
from workers.commands.terminal import say, stdout, write_json_line


class DeadLetterAction(StrEnum):
    REPLAY = "replay"
    DISCARD = "discard"

    @property
    def done(self) -> DeadLetterStatus:
        """The status of a letter after this action."""
        return DeadLetterStatus.REPLAYED if self is DeadLetterAction.REPLAY else DeadLetterStatus.DISCARDED


def list_letters(filters: Filters, state: StatusOption, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound for an id that matches no letter, DependencyUnavailable."""
    entries = anyio.run(_find, _selection(filters, state), data_dir)
    if as_json:
        for entry in entries:
            write_json_line(letter_json(entry))
    elif entries:
        stdout().print(letter_table(entries))
        say(f"{len(entries)} dead letter(s)")
    else:
        say("no dead letters" if state is StatusOption.ALL else f"no dead letters that are {state.value}")


async def _find(selection: Selection, data_dir: Path | None) -> list[DeadLetterEntry]:
    async with open_installation(data_dir) as services:
        return await _replayer(services).find(selection)


def show_letters(filters: Filters, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound for an id that matches no letter, DependencyUnavailable."""
    anyio.run(_show, _selection(filters, StatusOption.ALL), as_json, data_dir)


async def _show(selection: Selection, as_json: bool, data_dir: Path | None) -> None:
    async with open_installation(data_dir) as services:
        entries = await _replayer(services).find(selection)
        documents = await services.documents.known({entry.letter.document_id for entry in entries})
        for entry in entries:
            document = documents.get(entry.letter.document_id)
            history = await services.documents.history(entry.letter.document_id)
            if as_json:
                write_json_line(report_json(entry, document, history))
            else:
                stdout().print(letter_report(entry, document, history))


def act(
    action: DeadLetterAction,
    filters: Filters,
    by: str,
    why: str,
    *,
    dry_run: bool,
    rate: float | None = None,
    as_json: bool,
    data_dir: Path | None,
) -> bool:
    """True where every selected letter has the status `action.done` now, or would have. `rate` is letters per second.

    Raises NotFound, before any change, for an id that matches no letter, and DependencyUnavailable.
    """
    selection = _selection(filters, StatusOption.ALL if filters.ids else StatusOption.OPEN)
    reason = Reason(by or _me(), why)
    return anyio.run(_act, action, selection, reason, dry_run, rate, as_json, data_dir)


async def _act(
    action: DeadLetterAction,
    selection: Selection,
    reason: Reason,
    dry_run: bool,
    rate: float | None,
    as_json: bool,
    data_dir: Path | None,
) -> bool:
    outcomes: list[ReplayResult] = []
    async with open_installation(data_dir) as services:
        replayer = _replayer(services)
        method = replayer.replay if action is DeadLetterAction.REPLAY else replayer.discard
        async for entry in paced(await replayer.find(selection), None if dry_run else rate):
            outcome = ReplayResult(entry, is_changed=False) if dry_run else await method(entry.letter, reason)
            outcomes.append(outcome)
            _tell(action, outcome, as_json)
    if not as_json:
        changed = sum(outcome.is_changed for outcome in outcomes)
        say(f"{len(outcomes)} dead letter(s), nothing done" if dry_run else f"{changed} {action.done.value}")
    good = {action.done, DeadLetterStatus.OPEN} if dry_run else {action.done}
    return all(outcome.entry.status in good for outcome in outcomes)


def _tell(action: DeadLetterAction, outcome: ReplayResult, as_json: bool) -> None:
    """Print the result for one letter. In a dry run the letter is still open."""
    status, letter = outcome.entry.status, outcome.entry.letter
    if letter.is_cut and action is DeadLetterAction.REPLAY and status is DeadLetterStatus.OPEN:
        words = f"cannot be replayed: the letter has a part of its record; the whole one is at {place_of(letter)}"
    elif status is DeadLetterStatus.OPEN:
        words = f"would be {action.done.value}"
    elif outcome.is_changed:
        words = status.value
    elif status is DeadLetterStatus.ARCHIVED:
        words = f"archived: `pagemill collections restore {_collection_of(letter)}` comes first"
    else:
        words = f"{status.value} already"
    if as_json:
        write_json_line({**letter_json(outcome.entry), "outcome": words})
    else:
        say(letter_line(letter, words))


def _collection_of(letter: DeadLetter) -> str:
    return letter.job.collection if letter.job else ""


def _selection(filters: Filters, state: StatusOption) -> Selection:
    return Selection(
        ids=frozenset(filters.ids) if filters.ids else None,
        code=filters.code,
        collection=filters.collection,
        tenant=None if filters.tenant is None else check_tenant(filters.tenant),
        since=filters.since,
        until=filters.until,
        statuses=None if state is StatusOption.ALL else frozenset({DeadLetterStatus(state.value)}),
    )


def _replayer(services: Services) -> Replayer:
    return Replayer(services.dead_letters, services.documents, services.queue, services.progress)


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
