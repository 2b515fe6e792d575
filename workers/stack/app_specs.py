"""Specs of Pagemill's own processes in the local stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

from ingestion.settings.embedding import VISUAL_EMBEDDERS
from workers.stack import probes
from workers.stack.datadir import Secrets
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import HOST
from workers.stack.supervise import ProcessSpec

API: Final = "api"
EMBEDDER: Final = "embedder"
JANITOR: Final = "janitor"
_STOP_MARGIN_S: Final = 5.0
_READY_S: Final = dict.fromkeys(VISUAL_EMBEDDERS, 1800.0)
"""The first start fetches the model, 4.4 GB, and every start reads and quantises it."""


def worker_names(count: int) -> list[str]:
    return [f"worker-{number}" for number in range(1, count + 1)]


def app_environment(ports: Mapping[str, int], secrets: Secrets) -> dict[str, str]:
    """The settings with which these processes and the command line find each other."""
    return {
        "PAGEMILL_API_HOST": HOST,
        "PAGEMILL_API_PORT": str(ports[API]),
        "PAGEMILL_API_URL": _url(ports[API]),
        "PAGEMILL_API_KEY": secrets.api_key,
        "PAGEMILL_EMBEDDER_HOST": HOST,
        "PAGEMILL_EMBEDDER_PORT": str(ports[EMBEDDER]),
        "PAGEMILL_EMBEDDER_URL": _url(ports[EMBEDDER]),
        "PAGEMILL_WORKER_METRICS_HOST": HOST,
    }


def membership(kafka: KafkaKind) -> dict[str, str]:
    """How the workers belong to their consumer group.

    A worker that is started again under its static name gets its partitions back at once. On noida-db, which never
    expires a dead member, it would not get them otherwise. In a given Kafka the names may be those of other stacks.
    """
    return {} if kafka is KafkaKind.GIVEN else {"PAGEMILL_KAFKA_STATIC_MEMBERSHIP": "true"}


def api_spec(ports: Mapping[str, int], env: Mapping[str, str]) -> ProcessSpec:
    return _serve(API, API, ports[API], env)


def embedder_spec(ports: Mapping[str, int], env: Mapping[str, str]) -> ProcessSpec:
    return _serve(EMBEDDER, EMBEDDER, ports[EMBEDDER], env)


def worker_spec(name: str, ports: Mapping[str, int], env: Mapping[str, str], *, drain_s: float) -> ProcessSpec:
    """`drain_s` is the time in which the worker finishes its jobs after SIGTERM."""
    own = {
        "PAGEMILL_WORKER_ID": name,
        "PAGEMILL_WORKER_METRICS_PORT": str(ports[name]),
    }
    return _serve(name, "worker", ports[name], {**env, **own}, stop_s=drain_s + _STOP_MARGIN_S)


def janitor_spec(ports: Mapping[str, int], env: Mapping[str, str]) -> ProcessSpec:
    own = {"PAGEMILL_WORKER_METRICS_PORT": str(ports[JANITOR])}
    return _serve(JANITOR, JANITOR, ports[JANITOR], {**env, **own})


def _serve(name: str, role: str, port: int, env: Mapping[str, str], *, stop_s: float = 15.0) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        # -P: do not import a folder `workers` from the current directory.
        argv=(sys.executable, "-P", "-m", "workers.cli", "serve", role),
        address=_url(port),
        probe=partial(probes.http_ready, f"{_url(port)}/ready"),
        env=env,
        ready_s=_READY_S.get(env.get("PAGEMILL_EMBEDDER", ""), 120.0),
        stop_s=stop_s,
    )


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
