"""The whole system on one machine: the five servers, and around them the API, the embedder, workers and a janitor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, NoReturn

from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.prepare import prepare
from ingestion.settings import Settings
from workers.stack import app_specs, server_specs
from workers.stack.datadir import DataDir
from workers.stack.environment import given_names, replace_settings
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MilvusKind
from workers.stack.servers import LocalServers, start_all, stop_all
from workers.stack.stack_file import describe
from workers.stack.supervise import StackError, Supervised

_FIRST_BACKOFF_S: Final = 1.0
_LONGEST_BACKOFF_S: Final = 30.0
_STEADY_S: Final = 60.0
"""A process that has lived this long is restarted without the backoff of its earlier ends."""


class LocalStack:
    """One stack on one data directory. `report` gets a line or two about each event after the start."""

    def __init__(
        self,
        data_dir: DataDir,
        *,
        workers: int,
        embedder: str,
        report: Callable[[str], None],
        milvus: MilvusKind = MilvusKind.LITE,
        kafka: KafkaKind = KafkaKind.AUTO,
    ) -> None:
        self._servers = LocalServers(data_dir, milvus, kafka)
        self._data_dir = data_dir
        self._worker_names = app_specs.worker_names(workers)
        self._embedder_kind = embedder
        self._report = report
        self._embedder: list[Supervised] = []
        self._api: list[Supervised] = []
        self._workers: list[Supervised] = []
        self._janitor: list[Supervised] = []

    @property
    def processes(self) -> list[Supervised]:
        return [*self._servers.processes, *self._embedder, *self._api, *self._workers, *self._janitor]

    async def start(self) -> None:
        """Start everything, wait until it is ready, and write stack.json.

        The settings of this process become those of the stack. Raises StackError, after which `stop` is still due.
        """
        await self._servers.reserve()
        replace_settings(os.environ, self._plan())
        # The embedder needs no server: its model is loaded while the servers start.
        await gather_or_cancel(start_all(self._embedder), self._start_around_servers())
        self._write_stack()

    async def watch(self) -> NoReturn:
        """Restart Pagemill's processes when they end. Raises StackError as soon as a server ends."""
        await gather_or_cancel(
            *(self._guard(server) for server in self._servers.processes),
            *(self._keep(process) for process in (*self._embedder, *self._api, *self._workers, *self._janitor)),
        )
        raise AssertionError("watching ends with an exception only")

    async def stop(self) -> None:
        """Stop all processes before the servers they use. Safe to repeat, and after a start that failed."""
        if self._servers.is_reserved:  # otherwise the directory and its stack.json belong to another stack
            self._data_dir.remove_stack()
        for group in ([*self._workers, *self._janitor], self._api, self._embedder):
            await stop_all(group)
        await self._servers.stop()

    def kill(self) -> None:
        """End everything at once; a `stop` that is under way then returns soon."""
        for process in self.processes:
            process.kill()

    def _plan(self) -> dict[str, str]:
        """Lay out the processes around the servers; returns the settings of the stack."""
        names = (app_specs.API, app_specs.EMBEDDER, *self._worker_names, app_specs.JANITOR)
        ports, secrets = self._data_dir.ports(names), self._data_dir.secrets()
        defaults = server_specs.DEFAULTS[self._servers.milvus]
        given = given_names(os.environ, defaults)
        env = {
            **{name: value for name, value in defaults.items() if name not in given},
            **self._servers.environment,
            **app_specs.app_environment(ports, secrets),
            **app_specs.membership(self._servers.kafka),
            "PAGEMILL_EMBEDDER": self._embedder_kind,
        }
        drain_s = Settings().worker.drain_s

        supervised = self._servers.supervised
        self._api = [supervised(app_specs.api_spec(ports, env))]
        self._embedder = [supervised(app_specs.embedder_spec(ports, env))]
        self._workers = [
            supervised(app_specs.worker_spec(name, ports, env, drain_s=drain_s)) for name in self._worker_names
        ]
        self._janitor = [supervised(app_specs.janitor_spec(ports, env))]
        return env

    async def _start_around_servers(self) -> None:
        await self._servers.start()
        await prepare(Settings())
        await start_all((*self._api, *self._workers, *self._janitor))

    async def _guard(self, server: Supervised) -> None:
        await server.wait()
        raise StackError(server.exit_report())

    async def _keep(self, process: Supervised) -> None:
        clock = asyncio.get_running_loop()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            started_s = clock.time()
            await process.wait()
            if clock.time() - started_s > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            self._report(f"{process.exit_report()}\nIt is restarted in {backoff_s:g} s.")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            await process.start()
            self._write_stack()
            self._report(f"{process.spec.name} runs again as process {process.pid}")

    def _write_stack(self) -> None:
        self._data_dir.write_stack(describe(os.environ, self.processes, self._servers.milvus, self._servers.kafka))
