"""Answers about dead letters, keys, webhooks and the system. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from ingestion.client.views import Listing


class CancelResult(BaseModel):
    """`cancelled`: the documents that are cancelled now. `cancelling`: those that the janitor cleans up."""

    cancelled: int
    cancelling: int


class LetterMark(BaseModel):
    """The replay or the discard of a letter."""

    action: str
    by: str
    why: str = ""
    at: datetime | None = None


class DeadLetter(BaseModel):
    """A dead letter: why a document failed. `letter` is its id."""

    letter: str
    state: str
    replayable: bool = False
    document_id: str | None = None
    filename: str | None = None
    collection: str | None = None
    code: str
    stage: str = ""
    message: str = ""
    time: datetime
    attempts: int = 0
    mark: LetterMark | None = None


class HistoryEvent(BaseModel):
    time: datetime
    event: str
    attempt: int = 0
    detail: str = ""


class DeadLetterReport(DeadLetter):
    """A dead letter, and its document's state and history."""

    document_state: str | None = None
    history: list[HistoryEvent] = []
    exception: str | None = None
    stacktrace: str | None = None


class DeadLetterResult(DeadLetter):
    """A letter after a replay or a discard. `changed` is False where it had been done before."""

    changed: bool


class DeadLetterList(Listing):
    dead_letters: list[DeadLetter]


class WorkerView(BaseModel):
    worker: str
    in_group: bool
    document_ids: list[str] = []


class TopicLag(BaseModel):
    topic: str
    records: int


class Outage(BaseModel):
    dependency: str
    since: datetime


class DocumentInWork(BaseModel):
    document_id: str
    tenant: str
    collection: str
    filename: str
    stage: str = ""
    pages: int = 0
    pages_done: int = 0
    attempts: int = 0
    since: datetime | None = None


class FinishedMinute(BaseModel):
    minute: datetime
    ready: int
    failed: int
    pages: int


class SystemView(BaseModel):
    """What the installation does now. `workers` and `lag` are None for a tenant, and while Kafka does not answer."""

    scope: str
    workers: list[WorkerView] | None = None
    lag: list[TopicLag] | None = None
    outages: list[Outage] = []
    in_work: list[DocumentInWork] = []
    finished: list[FinishedMinute] = []


class KeyView(BaseModel):
    """An API key without its secret. `role` is None in a damaged record."""

    key: str
    tenant: str
    role: str | None = None
    name: str = ""
    state: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class NewKey(KeyView):
    """A key that was just made. `api_key` is its text, which is shown once."""

    api_key: str = Field(repr=False)


class KeyList(BaseModel):
    keys: list[KeyView]


class WebhookView(BaseModel):
    """A webhook without its secret. `collection` None: all collections of the tenant."""

    webhook: str
    url: str
    events: list[str] = []
    collection: str | None = None
    created_at: datetime | None = None


class NewWebhook(WebhookView):
    """A webhook that was just made, and its secret, which is shown once."""

    secret: str = Field(repr=False)


class WebhookList(BaseModel):
    webhooks: list[WebhookView]


class WebhookDelivery(BaseModel):
    """An event on its way to an endpoint. `event` is the header webhook-id."""

    delivery: str
    event: str
    type: str
    state: str
    attempts: int = 0
    last_error: str = ""
    created_at: datetime | None = None
    due_at: datetime | None = None
    settled_at: datetime | None = None


class WebhookDeliveryList(Listing):
    deliveries: list[WebhookDelivery]


class Replayed(BaseModel):
    changed: bool
