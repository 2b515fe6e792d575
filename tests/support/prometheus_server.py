"""A real Prometheus for tests: it scrapes the processes of a stack and evaluates the project's alerts."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import yaml

from tests.support.composefile import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ALERTS: Final = ROOT / "deploy/prometheus/alerts.yml"
IS_INSTALLED: Final = shutil.which("prometheus") is not None
_START_S: Final = 60.0
_STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer, with its value."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """A client of a running server."""

    def __init__(self, url: str, targets: Path) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30)
        self._targets = targets

    def query(self, expression: str) -> list[Sample]:
        """Return the series that have a value now. Raises AssertionError where Prometheus refuses the expression."""
        answer = self._http.get("/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        found = [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]
        return [sample for sample in found if not isnan(sample.value)]

    def firing(self) -> list[Mapping[str, str]]:
        """The labels of the alerts that fire now."""
        alerts = self._http.get("/alerts").json()["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def wait_firing(self, name: str, timeout_s: float = 60.0, **labels: str) -> None:
        """Wait until an alert with these labels fires."""
        wanted = {"alertname": name, **labels}.items()
        wait_until(lambda: any(wanted <= found.items() for found in self.firing()), timeout_s)

    def add_target(self, job: str, address: str) -> None:
        """Scrape one more address. The targets that were added before stay."""
        listed = json.loads(self._targets.read_text())
        self._targets.write_text(json.dumps([*listed, {"targets": [address], "labels": {"job": job}}]))


def targets_of(stack: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The processes of a local stack that have metrics, under the jobs of `deploy/prometheus/prometheus.yml`."""
    found = []
    for process in stack["processes"]:
        job = "worker" if process["name"].startswith("worker-") else process["name"]
        if job in ("api", "embedder", "janitor", "worker"):
            found.append({"targets": [urlsplit(process["address"]).netloc], "labels": {"job": job}})
    return found


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[Mapping[str, Any]]) -> Iterator[Prometheus]:
    """Scrapes each second. The rules are those of `deploy/prometheus`, without their waits (`for`)."""
    listed = folder / "targets.json"
    listed.write_text(json.dumps(list(targets)))
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "stack", "file_sd_configs": [{"files": [str(listed)], "refresh_interval": "1s"}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(f"http://{address}"), _START_S)
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield Prometheus(f"http://{address}", listed)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).is_success
    except httpx.HTTPError:
        return False
