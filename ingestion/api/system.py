"""The route that shows what the installation does now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ingestion.api.dependencies import PrincipalDep, ServicesDep, SystemDep
from ingestion.api.views import OutageView
from ingestion.concurrency.deadline import budget
from ingestion.model import Document, DocumentState, public_name, tenant_of
from ingestion.ports import FinishedMinute
from ingestion.system import SystemState

router = APIRouter(tags=["system"])


class InWorkView(BaseModel):
    """A document that a worker processes now."""

    document_id: str
    tenant: str
    collection: str
    filename: str
    stage: str
    pages: int
    pages_done: int
    attempts: int
    since: datetime | None = Field(description="the last change of its record: a claim, a checkpoint")

    @classmethod
    def of(cls, document: Document) -> InWorkView:
        return cls(
            document_id=document.id,
            tenant=tenant_of(document.collection),
            collection=public_name(document.collection),
            filename=document.filename,
            stage=document.stage,
            pages=document.pages,
            pages_done=document.pages_done,
            attempts=document.attempts,
            since=document.updated_at,
        )


class WorkerView(BaseModel):
    """A worker, and the documents that it processes."""

    worker: str
    in_group: bool = Field(description="whether it is in the consumer group; false for a worker that lost its place")
    document_ids: list[str]


class LagView(BaseModel):
    topic: str
    records: int = Field(description="records that no worker has committed")


class MinuteView(BaseModel):
    """What was finished in one minute."""

    minute: datetime
    ready: int = Field(description="documents that became ready")
    failed: int = Field(description="documents that failed")
    pages: int = Field(description="pages of the documents that became ready")


class SystemView(BaseModel):
    scope: Literal["installation", "tenant"]
    workers: list[WorkerView] | None = Field(description="null for a tenant, and while the broker does not answer")
    lag: list[LagView] | None = Field(description="null for a tenant, and while the broker does not answer")
    outages: list[OutageView] = Field(description="servers that workers wait for")
    in_work: list[InWorkView] = Field(description="500 at most, the last changed first")
    finished: list[MinuteView] = Field(description="minutes in which a document was finished, oldest first")


@router.get("/system")
async def get_system(
    reader: SystemDep,
    services: ServicesDep,
    principal: PrincipalDep,
    minutes: Annotated[int, Query(ge=1, le=60, description="how far back `finished` goes")] = 15,
) -> SystemView:
    """What the installation does now, a few seconds old at most.

    The key of the settings sees the whole installation. Other keys see the documents of their tenant.
    """
    tenant = None if principal.is_operator else principal.tenant
    with budget(services.settings.api.store_budget_s):
        state = await reader.state(tenant, minutes)
    return SystemView(
        scope="tenant" if tenant else "installation",
        workers=_workers(state),
        lag=None
        if state.group is None
        else [LagView(topic=topic, records=records) for topic, records in sorted(state.group.lag.items())],
        outages=[OutageView(dependency=name, since=since) for name, since in sorted(state.outages.items())],
        in_work=[InWorkView.of(document) for document in state.in_work],
        finished=_minutes(state.finished),
    )


def _workers(state: SystemState) -> list[WorkerView] | None:
    if state.group is None:
        return None
    documents: defaultdict[str, list[str]] = defaultdict(list)
    for document in state.in_work:
        documents[document.owner].append(document.id)
    members = set(state.group.members)
    return [
        WorkerView(worker=name, in_group=name in members, document_ids=documents.get(name, []))
        for name in sorted(members | documents.keys())
    ]


def _minutes(finished: Sequence[FinishedMinute]) -> list[MinuteView]:
    minutes: dict[datetime, MinuteView] = {}
    for one in finished:
        view = minutes.setdefault(one.at, MinuteView(minute=one.at, ready=0, failed=0, pages=0))
        if one.state is DocumentState.READY:
            view.ready, view.pages = one.documents, one.pages
        else:
            view.failed = one.documents
    return [minutes[at] for at in sorted(minutes)]
