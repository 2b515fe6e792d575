"""Scrape targets, alerts and dashboards: their series exist, and their expressions are valid PromQL."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.metrics import MetricWrapperBase

from ingestion import metrics
from tests.support import composefile
from tests.support.composefile import ROOT, environment
from tests.support.grafana_schema import Dashboard

PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
SERVICES = composefile.load(composefile.filled_in())["services"]
DASHBOARD = json.loads((GRAFANA / "dashboards/pagemill.json").read_text())
CONFIG = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
GROUPS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PANEL_EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [*PANEL_EXPRESSIONS, *(rule["expr"] for rule in ALERTS)]

BOUNDED_LABELS = {
    "action": "what the janitor does with a collection",
    "code": "codes of errors, which are classes",
    "collection": "at most MAX_COLLECTIONS and one for the rest (`workers.installation_gauges`)",
    "dependency": "servers",
    "flow": "in or out",
    "gpu": "GPUs of the machine",
    "kind": "kinds of repairs and of findings",
    "lane": "text or image",
    "le": "buckets",
    "media_type": "the types of files that are accepted",
    "operation": "methods of adapters",
    "outcome": "results of a cache",
    "part": "parts of a search",
    "partition": "partitions of the topics of jobs",
    "reason": "limits of the HTTP server",
    "result": "results of a cache",
    "stage": "stages of an attempt or of a search",
    "state": "states of documents, and `unknown`; states of deliveries",
    "status": "outcomes of attempts; HTTP statuses",
    "store": "servers",
    "task": "background tasks",
    "topic": "topics of jobs and their retries",
    "uuid": "GPUs of the machine",
}
"""What bounds the values of each label. A label with a document, a file, a query or a user has no bound."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)"
)


def declared_series() -> dict[str, set[str]]:
    """The series of `ingestion.metrics`, under the names that Prometheus gives them, with their labels."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    series = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            for suffix in suffixes[family.type]:
                series[family.name + suffix] = set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
    for family in PROCESS_COLLECTOR.collect():
        series[family.name + ("_total" if family.type == "counter" else "")] = set()
    return series


def series_in(expression: str) -> set[str]:
    """The series of a PromQL expression: what is neither string, range, label, function nor keyword."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', "", expression)
    bare = re.sub(r"\b(by|on)\s*\([^)]*\)", "", bare)
    words = re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare)
    return {word for word in words if word not in {"and", "unless", "offset"}}


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> None:
    run = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_names_of_metrics_are_found_in_an_expression() -> None:
    expression = 'sum by (le) (rate(a_bucket{b="c_total"}[5m])) / scalar(d_total) unless on () e offset 5m'
    assert series_in(expression) == {"a_bucket", "d_total", "e"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_series_that_exist_are_asked_for(expression: str) -> None:
    asked = series_in(expression)
    assert asked
    assert asked <= set(declared_series()) | {"up"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_labels_that_exist_are_grouped_by(expression: str) -> None:
    grouped = {label for labels in re.findall(r"by \(([^)]+)\)", expression) for label in labels.split(", ")}
    assert grouped <= {"instance", "job"}.union(
        *(declared_series().get(name, set()) for name in series_in(expression))
    )


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_statuses_that_exist_are_counted(expression: str) -> None:
    named = {status for found in re.findall(r'status=~?"([^"]+)"', expression) for status in found.split("|")}
    assert named <= set(metrics.ATTEMPT_STATUSES)


def test_every_process_is_scraped_where_it_serves_its_metrics() -> None:
    scraped = {job["job_name"]: job for job in CONFIG["scrape_configs"]}
    api, embedder, worker, janitor = (environment(SERVICES[name]) for name in ("api", "embedder", "worker", "janitor"))
    assert scraped["api"]["static_configs"][0]["targets"] == [f"api:{api['PAGEMILL_API_PORT']}"]
    assert scraped["embedder"]["static_configs"][0]["targets"] == [f"embedder:{embedder['PAGEMILL_EMBEDDER_PORT']}"]
    assert scraped["janitor"]["static_configs"][0]["targets"] == [f"janitor:{janitor['PAGEMILL_WORKER_METRICS_PORT']}"]
    (discovery,) = scraped["worker"]["dns_sd_configs"]
    assert discovery["names"] == ["worker", "worker-gpu"]
    assert (discovery["type"], str(discovery["port"])) == ("A", worker["PAGEMILL_WORKER_METRICS_PORT"])


def test_alerts_say_how_bad_it_is_and_what_it_means() -> None:
    assert CONFIG["rule_files"] == ["alerts.yml"]
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    cases: list[dict[str, Any]] = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == {rule["alert"] for rule in ALERTS}


def test_panels_ask_the_provisioned_datasource_and_do_not_overlap() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    covered: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert {panel["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel["targets"])} == {source["uid"]}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & covered, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        covered |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    Dashboard.model_validate(DASHBOARD)


def test_the_dashboard_has_five_groups_and_shows_quantiles_of_every_stage() -> None:
    groups = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert groups == ["Throughput", "Stages", "Kafka and the queue", "Stores and search", "GPU and processes"]
    for stage in ("conversion", "embedding", "storing", "ingestion"):
        shown = {
            quantile
            for expression in PANEL_EXPRESSIONS
            for quantile in re.findall(
                rf"histogram_quantile\(([\d.]+), .*\b{stage}_duration_seconds_bucket", expression
            )
        }
        assert shown == {"0.5", "0.95", "0.99"}, stage


def test_every_label_has_few_values() -> None:
    for name, labels in declared_series().items():
        assert labels <= BOUNDED_LABELS.keys(), name


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/pagemill.yml").read_text())["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(PANEL_EXPRESSIONS)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", folder=tmp_path)
