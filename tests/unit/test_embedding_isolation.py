"""What is blamed when embedding fails: the service, or one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ingestion.adapters.embedding_isolation import NotTheInput, PageInput, embed_isolating
from ingestion.errors import DependencyUnavailable, Fault, IngestError, PageNotEmbedded, RetryableError, WorkerFault
from ingestion.model import Vectors


class Service:
    """Fails on a request with more than `most` pages, or with a page in `poison`."""

    def __init__(self, *, most: int = 100, poison: Sequence[int] = (), error: IngestError | None = None) -> None:
        self._most = most
        self._poison = set(poison)
        self._error = error or DependencyUnavailable("embedder", "ReadTimeout")
        self.is_up = True
        self.requests: list[list[int]] = []
        self.probes = 0

    async def embed(self, inputs: Sequence[PageInput]) -> list[Vectors]:
        numbers = [one.page_number for one in inputs]
        self.requests.append(numbers)
        if len(numbers) > self._most or self._poison & set(numbers) or not self.is_up:
            raise self._error
        return [np.full((1, 1), number, np.float32) for number in numbers]

    async def probe(self) -> None:
        self.probes += 1
        if not self.is_up:
            raise DependencyUnavailable("embedder", "no answer to a probe")


def pages(count: int) -> list[PageInput]:
    return [PageInput(number, f"text {number}") for number in range(1, count + 1)]


async def test_where_all_goes_well_nothing_is_probed() -> None:
    service = Service()
    found = await embed_isolating(service.embed, pages(3), service.probe)
    assert [vectors[0, 0] for vectors in found] == [1, 2, 3]
    assert (len(service.requests), service.probes) == (1, 0)


async def test_what_is_too_much_for_one_request_goes_in_parts_and_in_order() -> None:
    service = Service(most=2)
    found = await embed_isolating(service.embed, pages(7), service.probe)
    assert [vectors[0, 0] for vectors in found] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("error", [DependencyUnavailable("embedder", "ReadTimeout"), WorkerFault("HTTP 500")])
async def test_the_page_that_a_working_service_fails_on_is_named_and_is_no_outage(error: IngestError) -> None:
    service = Service(poison=[6], error=error)
    with pytest.raises(PageNotEmbedded, match="page 6 alone") as caught:
        await embed_isolating(service.embed, pages(8), service.probe)
    assert isinstance(caught.value, RetryableError), "attempts are counted, and one after the other may do better"
    assert caught.value.fault is Fault.FILE, "so that it never halts a worker"
    assert error.message in caught.value.message
    assert len(service.requests) <= 2 * 3 + 1


async def test_a_service_that_fails_on_the_probe_as_well_is_down_whatever_the_page() -> None:
    service = Service(poison=[1])
    service.is_up = False
    with pytest.raises(DependencyUnavailable, match="ReadTimeout"):
        await embed_isolating(service.embed, pages(8), service.probe)
    assert len(service.requests) == 1


async def test_overload_and_another_model_are_no_pages_fault() -> None:
    service = Service(poison=[1], error=NotTheInput("embedder", "HTTP 429"))
    with pytest.raises(NotTheInput):
        await embed_isolating(service.embed, pages(1), service.probe)
    assert service.probes == 0
