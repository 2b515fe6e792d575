"""The servers that Pagemill needs, running on 127.0.0.1 with their data under one directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from ingestion.concurrency.tasks import gather_or_cancel
from workers.stack import kafka_kinds, server_specs
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MilvusKind
from workers.stack.supervise import ProcessSpec, Supervised


class LocalServers:
    """An async context manager: inside, every server answers. At exit all are stopped.

    `environment` holds the settings of a process that wants to use them.
    """

    def __init__(
        self, data_dir: DataDir, milvus: MilvusKind = MilvusKind.LITE, kafka: KafkaKind = KafkaKind.AUTO
    ) -> None:
        self.data_dir = data_dir
        self.milvus = milvus
        self.kafka = kafka
        """Never AUTO after `reserve`."""
        self.processes: list[Supervised] = []
        self.environment: dict[str, str] = {}
        self._lock_fd: int | None = None

    @property
    def is_reserved(self) -> bool:
        """True while this stack has the data directory."""
        return self._lock_fd is not None

    async def reserve(self) -> None:
        """Take the data directory and choose ports, so that `environment` is known before anything runs.

        Raises StackError where another stack uses the directory or a server is not installed.
        """
        server_specs.check_kind(self.data_dir.root, self.milvus)
        self.kafka = kafka_kinds.choose(self.data_dir.root, self.kafka)
        self.data_dir.make(*server_specs.folders(self.milvus, self.kafka))
        self._lock_fd = await self.data_dir.acquire()
        self.data_dir.remove_stack()  # the file of a stack that was killed
        secrets, ports = self.data_dir.secrets(), self._ports()
        self.environment = server_specs.server_environment(ports, secrets, self.kafka)
        specs = server_specs.all_servers(self.data_dir.root, ports, secrets, self.milvus, self.kafka)
        self.processes = [self.supervised(spec) for spec in specs]

    def _ports(self) -> dict[str, int]:
        return self.data_dir.ports(server_specs.ports_needed(self.milvus, self.kafka))

    def supervised(self, spec: ProcessSpec) -> Supervised:
        """A process of this data directory. Its log lies there. It keeps the directory locked until its end."""
        assert self._lock_fd is not None, "supervised() before reserve()"
        return Supervised(spec, self.data_dir.log_path(spec.name), inherited_fds=(self._lock_fd,))

    async def start(self) -> None:
        """Start the reserved servers at once. Raises the StackError of the first server that fails."""
        await start_all(self.processes)

    async def stop(self) -> None:
        """Stop all and give the directory back. Safe to repeat, and after a start that failed half-way."""
        await stop_all(self.processes)
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    async def __aenter__(self) -> Self:
        try:
            await self.reserve()
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def start_all(processes: Iterable[Supervised]) -> None:
    """Start all at once and wait until each is ready. Raises the first StackError and leaves the others running."""
    processes = list(processes)
    await gather_or_cancel(*(_start(process) for process in processes))


async def _start(process: Supervised) -> None:
    await process.start()
    await process.wait_ready()


async def stop_all(processes: Iterable[Supervised]) -> None:
    await asyncio.gather(*(process.stop() for process in processes))
