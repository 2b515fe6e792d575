"""Documents that a worker admits in the order of their arrival, for tests of its capacity."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from ingestion.messages import Record, encode_job
from ingestion.model import IngestJob
from workers.consumer.admission import Admission


def admitted(admission: Admission, pages: int, tenant: str = "a") -> AbstractAsyncContextManager[Record | None]:
    """Hold the capacity of a document of `pages` pages; 0 where the number is unknown. Waits for it."""
    key, value, headers = encode_job(IngestJob("d", f"{tenant}.c", "f.pdf", pages))
    return admission.admit(Record(("jobs", 0), 0, key, value, tuple(headers)))
