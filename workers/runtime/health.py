"""A worker's /health, /ready and /metrics, served from a thread: they answer while the event loop is blocked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from workers.runtime.breaker import Outage


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a worker takes jobs, and the servers that are down, with their times and causes.

    `unassigned_topics` are those that no worker of the group reads.
    """

    is_ready: bool
    outages: Sequence[Outage]
    unassigned_topics: Sequence[str] = ()

    def as_json(self) -> bytes:
        outages = [
            {"dependency": outage.dependency, "since": outage.since.isoformat(), "cause": outage.cause}
            for outage in self.outages
        ]
        status = "ok" if self.is_ready else "not ready"
        topics = {"unassigned_topics": list(self.unassigned_topics)} if self.unassigned_topics else {}
        return json.dumps({"status": status, "outages": outages, **topics}).encode()


class HealthServer:
    """Serves on `host` and `port` until closed. `health` is called from the server's threads."""

    def __init__(self, host: str, port: int, health: Callable[[], Health]) -> None:
        metrics: Any = make_wsgi_app()

        def application(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/metrics":
                return metrics(environ, respond)  # type: ignore[no-any-return]
            if path == "/health":
                return _answer(respond, "200 OK", b'{"status":"ok"}')
            if path == "/ready":
                current = health()
                return _answer(respond, "200 OK" if current.is_ready else "503 Service Unavailable", current.as_json())
            return _answer(respond, "404 Not Found", b'{"status":"not found"}')

        self._server = make_server(host, port, application, _Server, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes come every few seconds."""


def _answer(respond: StartResponse, status: str, body: bytes) -> Iterable[bytes]:
    respond(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
