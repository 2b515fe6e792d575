"""The steps, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestion.adapters.kafka.topic_check import topic_faults
from ingestion.adapters.kafka.topics import add_partitions, ensure_topics
from ingestion.catalogue.generations import FIRST, Binding, index_of
from ingestion.errors import BadRecord, NotFound
from ingestion.ports import Bindings, CollectionCatalogue
from ingestion.settings import KafkaSettings
from workers.migrations.step import Task


class Prepared(Protocol):
    """The object store, or the document store. `missing` names what `prepare` would create."""

    async def missing(self) -> list[str]: ...
    async def prepare(self) -> None: ...


class Aliased(Protocol):
    """The vector store."""

    async def pointed(self, collection: str) -> str | None: ...
    async def point(self, collection: str, index: str) -> None: ...


class CollectionRecords(CollectionCatalogue, Bindings, Protocol):
    """The collections and their generations."""


@dataclass(slots=True)
class StoreStep:
    """What a store must hold before the first document: the bucket, or MongoDB's indexes and its counter."""

    name: str
    store: Prepared
    version: int = 1

    async def tasks(self) -> Sequence[Task]:
        return [Task(f"create {missing}") for missing in await self.store.missing()]

    async def apply(self) -> None:
        await self.store.prepare()


@dataclass(slots=True)
class TopicStep:
    """Topics and partitions. Settings of topics that exist are the operator's: a command is named for each."""

    kafka: KafkaSettings
    name: str = "topics"
    version: int = 1

    async def tasks(self) -> Sequence[Task]:
        tasks = []
        for fault in await topic_faults(self.kafka):
            if fault.problem == "missing":
                tasks.append(Task(f"create the topic {fault.topic}"))
            elif fault.lacks_partitions:
                tasks.append(Task(f"add partitions to the topic {fault.topic}: {fault.problem}"))
            else:
                tasks.append(Task(f"topic {fault.topic}: {fault.problem}", fault.remedy, fault.loses_records))
        return tasks

    async def apply(self) -> None:
        await ensure_topics(self.kafka)
        await add_partitions(self.kafka)


@dataclass(slots=True)
class AliasStep:
    """Milvus: the name of each collection stands for its current generation, for programs that read Milvus directly.

    The collections themselves are made with the first document, by the embedder that it is embedded with.
    """

    records: CollectionRecords
    vectors: Aliased
    name: str = "index aliases"
    version: int = 1

    async def tasks(self) -> Sequence[Task]:
        return [
            Task(f"point the name of collection {one.collection} to generation {one.current.number} in Milvus")
            for one in await self._misled()
        ]

    async def apply(self) -> None:
        for one in await self._misled():
            await self.vectors.point(one.collection, index_of(one.collection, one.current.number))

    async def _misled(self) -> list[Binding]:
        """The collections of a later generation whose name stands for another generation, or for none.

        A collection whose vectors are archived, or whose generation has no index yet, is left out.
        """
        misled = []
        for collection in await self.records.collections():
            try:
                bound = await self.records.binding(collection)
            except (BadRecord, NotFound):  # a newer release or an audit has to deal with it
                continue
            if bound is None or bound.current.number == FIRST:
                continue
            index = await self.vectors.pointed(index_of(collection, bound.current.number))
            if index is not None and index != await self.vectors.pointed(collection):
                misled.append(bound)
        return misled
