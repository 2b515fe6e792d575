"""Routes of dead letters: documents that could not be ingested. `pagemill dlq` is the same for operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from ingestion.api.dependencies import PrincipalDep, ReplayerDep, ServicesDep
from ingestion.concurrency.deadline import budget
from ingestion.errors import Conflict
from ingestion.model import Document, DocumentState, Event, LetterMark, Principal, public_name, qualified_name
from ingestion.replay.entries import DeadLetterEntry, DeadLetterStatus
from ingestion.replay.replayer import Reason, ReplayResult
from ingestion.replay.selection import Selection

router = APIRouter(tags=["dead letters"])

_MOST_WHY_CHARS: Final = 1_000
StatusName = Literal["open", "replayed", "discarded", "moved-on", "archived", "deleted"]


class MarkView(BaseModel):
    """The replay or the discard of a letter."""

    action: str = Field(description="replayed or discarded")
    by: str = Field(description="the key, or the person at the command line")
    why: str
    at: datetime | None

    @classmethod
    def of(cls, mark: LetterMark | None) -> MarkView | None:
        return None if mark is None else cls(action=mark.action, by=mark.by, why=mark.why, at=mark.at)


class DeadLetterView(BaseModel):
    """A dead letter. `filename` and `collection` are null where the record is no job."""

    letter: str = Field(description="the id of the letter")
    state: str = Field(
        description="open, replayed, discarded, moved-on, archived or deleted; an open one can be replayed"
    )
    replayable: bool = Field(description="it is open, and the letter has its whole record")
    document_id: str | None
    filename: str | None
    collection: str | None
    code: str
    stage: str
    message: str
    time: datetime
    attempts: int
    mark: MarkView | None

    @classmethod
    def of(cls, entry: DeadLetterEntry) -> DeadLetterView:
        letter, job = entry.letter, entry.letter.job
        return cls(
            letter=letter.id,
            state=entry.status.value,
            replayable=entry.status is DeadLetterStatus.OPEN and not letter.is_cut,
            document_id=letter.document_id or (job.document_id if job else None),
            filename=job.filename if job else None,
            collection=public_name(job.collection) if job else None,
            code=letter.failure.code,
            stage=letter.failure.stage,
            message=letter.failure.message,
            time=letter.timestamp,
            attempts=max(0, letter.delivery_count),
            mark=MarkView.of(entry.mark),
        )


class EventView(BaseModel):
    """A line of a document's history."""

    time: datetime
    event: str
    attempt: int
    detail: str


class DeadLetterReport(DeadLetterView):
    """Everything about a letter."""

    document_state: DocumentState | None = Field(description="of the document now; null where it has no record")
    history: list[EventView] = Field(description="of the document, oldest first")
    exception: str | None = Field(description="only for the key of the settings")
    stacktrace: str | None = Field(description="only for the key of the settings")


class DeadLetterListView(BaseModel):
    dead_letters: list[DeadLetterView]
    next: str | None = Field(
        description="the value of `after` for older letters; null on the last page. A page that is not full, or "
        "empty, may have one"
    )


class ReasonView(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: str = Field("", max_length=_MOST_WHY_CHARS, description="the reason; it is stored with the letter")


class ResultView(DeadLetterView):
    changed: bool = Field(description="false where it had been done before")


@router.get("/dead-letters")
async def list_dead_letters(
    replayer: ReplayerDep,
    services: ServicesDep,
    principal: PrincipalDep,
    collection: str | None = None,
    state: Annotated[Literal[StatusName, "all"], Query(description="only letters in this state")] = "open",
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    after: Annotated[str | None, Query(description="the `next` of an earlier answer")] = None,
) -> DeadLetterListView:
    """Dead letters of the caller's tenant, newest first.

    The key of the settings sees the records that are no jobs as well: they belong to no tenant.
    """
    statuses = None if state == "all" else frozenset({DeadLetterStatus(state)})
    name = None if collection is None else qualified_name(principal.tenant, collection)
    with budget(services.settings.api.store_budget_s):
        found = await replayer.newest(_selection(principal, name, statuses), limit, after)
    return DeadLetterListView(dead_letters=[DeadLetterView.of(entry) for entry in found.entries], next=found.next)


@router.get("/dead-letters/{letter_id}")
async def get_dead_letter(
    letter_id: str, replayer: ReplayerDep, services: ServicesDep, principal: PrincipalDep
) -> DeadLetterReport:
    """A dead letter, and the history of its document."""
    with budget(services.settings.api.store_budget_s):
        entry = await replayer.one(letter_id, _selection(principal))
        document = await services.documents.get(entry.letter.document_id) if entry.letter.document_id else None
        history = await services.documents.history(document.id) if document else []
    return _report(entry, document, history, principal)


@router.post("/dead-letters/{letter_id}/replay")
async def replay_dead_letter(
    letter_id: str,
    replayer: ReplayerDep,
    services: ServicesDep,
    principal: PrincipalDep,
    reason: ReasonView | None = None,
) -> ResultView:
    """Process the document of an open letter again. Twice is the same as once."""
    with budget(services.settings.api.store_budget_s):
        entry = await replayer.one(letter_id, _selection(principal))
        result = await replayer.replay(entry.letter, _reason(principal, reason))
    if result.entry.letter.is_cut and result.entry.status is DeadLetterStatus.OPEN:
        raise Conflict(f"dead letter {letter_id} has only a part of its record: upload the file again")
    return _result(result, DeadLetterStatus.REPLAYED)


@router.post("/dead-letters/{letter_id}/discard")
async def discard_dead_letter(
    letter_id: str,
    replayer: ReplayerDep,
    services: ServicesDep,
    principal: PrincipalDep,
    reason: ReasonView | None = None,
) -> ResultView:
    """Mark an open letter as discarded. Its document stays failed. Twice is the same as once."""
    with budget(services.settings.api.store_budget_s):
        entry = await replayer.one(letter_id, _selection(principal))
        result = await replayer.discard(entry.letter, _reason(principal, reason))
    return _result(result, DeadLetterStatus.DISCARDED)


def _selection(
    principal: Principal, collection: str | None = None, statuses: frozenset[DeadLetterStatus] | None = None
) -> Selection:
    return Selection(
        tenant=principal.tenant, collection=collection, statuses=statuses, with_unowned=principal.is_operator
    )


def _reason(principal: Principal, reason: ReasonView | None) -> Reason:
    return Reason(f"key {principal.key_id}", reason.why if reason else "")


def _result(result: ReplayResult, done: DeadLetterStatus) -> ResultView:
    """Raises Conflict where the letter is in another state than the caller asked for."""
    entry = result.entry
    if entry.status is not done:
        raise Conflict(f"dead letter {entry.letter.id} is {entry.status.value}: it cannot be {done.value}")
    return ResultView(**DeadLetterView.of(entry).model_dump(), changed=result.is_changed)


def _report(
    entry: DeadLetterEntry, document: Document | None, history: Sequence[Event], principal: Principal
) -> DeadLetterReport:
    """Without the names of workers, and, for callers other than operators, without the stack trace."""
    return DeadLetterReport(
        **DeadLetterView.of(entry).model_dump(),
        document_state=document.state if document else None,
        history=[EventView(time=one.at, event=one.event, attempt=one.attempt, detail=one.detail) for one in history],
        exception=entry.letter.exception_class if principal.is_operator else None,
        stacktrace=entry.letter.stacktrace if principal.is_operator else None,
    )
