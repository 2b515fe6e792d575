"""Metrics that are served and scraped, alerts that are loaded, dashboards that are found."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any, Final

from workers.bench.scrape import metrics_urls, scrape
from workers.validation.context import Context
from workers.validation.finding import Finding, failed, judged, skipped

_JOBS: Final = ("api", "worker")
_OF_API: Final = frozenset({"http_connections", "searches_admitted_total"})
_OF_WORKERS: Final = frozenset(
    {"ingestion_files_total", "ingestion_pages_total", "conversion_duration_seconds_count", "kafka_consumer_lag"}
)
_OWN: Final = "Pagemill"
_TIMEOUT_S: Final = 10.0
_LOOK_EVERY_S: Final = 1.0
SERVED_WITHIN_S: Final = 45.0


async def metrics_served(context: Context) -> Finding:
    """The API's metrics, and those of the workers whose addresses are known."""
    urls = dict.fromkeys([f"{context.target.api_url.rstrip('/')}/metrics", *context.metrics])
    urls |= dict.fromkeys(metrics_urls(context.read_stack()))
    are_workers_known = len(urls) > 1
    wanted = _OF_API | _OF_WORKERS if are_workers_known else _OF_API
    served = await _served(context, list(urls), wanted)
    every = set().union(*served.values())
    problems = [f"{url} serves no metrics" for url, names in served.items() if not names]
    problems += [f"no process serves {name}" for name in sorted(wanted - every)]
    evidence: dict[str, object] = {url: f"{len(names)} names" for url, names in served.items()}
    if not are_workers_known:
        evidence["workers"] = "not looked at: name their addresses with --metrics"
    return judged(problems, f"{len(urls)} processes serve {len(every)} names", **evidence)


async def _served(context: Context, urls: Sequence[str], wanted: frozenset[str]) -> dict[str, set[str]]:
    """Return the names at each address. A worker measures its lag some seconds after it got its partitions."""
    deadline = time.monotonic() + SERVED_WITHIN_S
    while True:
        found = {url: {one.name for one in await scrape(context.http, url) or ()} for url in urls}
        if wanted <= set().union(*found.values()) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)


async def metrics_scraped(context: Context) -> Finding:
    """The targets of Prometheus: all up, the API and a worker among them."""
    if context.prometheus is None:
        return skipped("no Prometheus is named; give --prometheus URL")
    targets = (await _get(context, context.prometheus, "/api/v1/targets"))["data"]["activeTargets"]
    jobs = {str(target["labels"].get("job", "")) for target in targets}
    down = [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"]
    problems = [f"not scraped: {one}" for one in down]
    problems += [f"no target of the job {job!r}" for job in _JOBS if job not in jobs]
    return judged(problems, f"{len(targets)} targets are up", jobs=", ".join(sorted(jobs)))


async def alerts_loaded(context: Context) -> Finding:
    """The alert rules of Prometheus: Pagemill's are among them, and each can be evaluated."""
    if context.prometheus is None:
        return skipped("no Prometheus is named; give --prometheus URL")
    groups = (await _get(context, context.prometheus, "/api/v1/rules?type=alert"))["data"]["groups"]
    own = {rule["name"]: rule for group in groups for rule in group["rules"] if rule["name"].startswith(_OWN)}
    problems = [
        f"{name} cannot be evaluated: {rule['lastError']}" for name, rule in own.items() if rule["health"] == "err"
    ]
    if context.alerts is not None:
        wanted = re.findall(r"^\s*- alert: (\w+)", context.alerts.read_text("utf-8"), re.MULTILINE)
        problems += [f"{name} is not loaded" for name in wanted if name not in own]
    elif not own:
        problems.append(f"no alert has a name that begins with {_OWN}; load deploy/prometheus/alerts.yml")
    firing = sorted(name for name, rule in own.items() if rule["state"] == "firing")
    return judged(problems, f"{len(own)} alerts are loaded", firing=", ".join(firing) or "none")


async def dashboards_found(context: Context) -> Finding:
    if context.grafana is None:
        return skipped("no Grafana is named; give --grafana URL, with user and password where it asks for them")
    found = await _get(context, context.grafana, f"/api/search?type=dash-db&query={_OWN}")
    titles = [str(one["title"]) for one in found]
    if not titles:
        return failed(f"no dashboard has {_OWN} in its title; provision deploy/grafana")
    return judged([], f"{len(titles)} dashboards are there", dashboards=", ".join(titles))


async def _get(context: Context, address: str, path: str) -> Any:
    """Return the JSON at an address. Raises httpx.HTTPError."""
    response = await context.http.get(f"{address.rstrip('/')}{path}", timeout=_TIMEOUT_S)
    response.raise_for_status()
    return response.json()
