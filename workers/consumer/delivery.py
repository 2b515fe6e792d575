"""What a record of the broker stands for, when a worker has it.

A record says that one document waits, and mostly which. Workers take turns between flows, so a record may serve a
document other than its own, and the other one's record serves that document later. So there are as many records as
waiting documents at any time, and each record is finished once: with the document that was claimed under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ingestion.errors import IngestError
from ingestion.messages import Record
from ingestion.model import Document, DocumentState, Flow, Priority, tenant_of
from ingestion.ports import Flows

_WAITS = (DocumentState.RECEIVED, DocumentState.QUEUED)


class Standing(Enum):
    BOUND = "bound"
    """The record serves its own document, or the one that was begun under it, and no other."""
    OPEN = "open"
    """Its own document waits. The record may serve another one first."""
    FREE = "free"
    """Its own document was taken under another record. The record serves any other, or none."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record, as it is to be run for the document that it stands for. `flow` is that document's."""

    record: Record
    standing: Standing
    flow: Flow
    document_id: str = ""


async def delivery_of(flows: Flows | None, record: Record, *, was_refused: bool) -> Delivery:
    """Read what `record` stands for. `was_refused`: its own document was offered to this worker, and not taken.

    Raises DependencyUnavailable.
    """
    try:
        job = record.job
    except IngestError:  # it becomes a dead letter
        return Delivery(record, Standing.BOUND, _UNKNOWN)
    if flows is None:
        return Delivery(record, Standing.BOUND, Flow(Priority.BULK, tenant_of(job.collection)), job.document_id)
    begun, own = await flows.delivered(record.delivery, job.document_id)
    if begun is not None and begun.is_readable and begun.id != job.document_id:
        return Delivery(record.standing_for(begun), Standing.BOUND, begun.flow, begun.id)
    standing = _standing_of(record, own, was_refused=was_refused)
    flow = own.flow if own else Flow(Priority.BULK, tenant_of(job.collection))
    return Delivery(record, standing, flow, job.document_id)


def _standing_of(record: Record, own: Document | None, *, was_refused: bool) -> Standing:
    """Documents of earlier releases belong to no flow: only their own record serves them."""
    if own is None or not own.is_readable or own.priority is None:
        return Standing.BOUND
    if own.state in _WAITS and own.delivery != record.delivery:
        return Standing.BOUND if was_refused else Standing.OPEN  # it waits for a retry, or another worker is faster
    return Standing.BOUND if own.delivery in ("", record.delivery) else Standing.FREE


_UNKNOWN = Flow(Priority.BULK, "")
