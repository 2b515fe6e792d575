"""deploy/k8s against the schemas of Kubernetes and its operators, the settings, and the rights of docs/security.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer.main

from ingestion.settings import SECTIONS, KafkaSettings, Settings
from tests.support.composefile import ROOT
from tests.support.kustomize import Object, merged, render
from workers.cli import app as cli

K8S = ROOT / "deploy/k8s"
OVERLAYS = {name: render(K8S / "overlays" / name) for name in ("cpu", "gpu")}
CRDS = Path(__file__).parent / "crds"
PROCESSES = ("api", "embedder-text", "worker", "janitor")
EVERY_OBJECT = [
    pytest.param(one, id=f"{overlay}-{one['kind']}-{one['metadata']['name']}")
    for overlay, objects in OVERLAYS.items()
    for one in objects
]
EACH_PROCESS = pytest.mark.parametrize("name", PROCESSES)
EACH_OVERLAY = pytest.mark.parametrize("overlay", OVERLAYS)


def found(kind: str, overlay: str = "cpu") -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in OVERLAYS[overlay] if one["kind"] == kind}


def pod(name: str, overlay: str = "cpu") -> Object:
    spec: Object = found("Deployment", overlay)[name]["spec"]["template"]["spec"]
    return spec


def container(name: str, overlay: str = "cpu") -> Object:
    [one] = pod(name, overlay)["containers"]
    return dict(one)


def environment(name: str, overlay: str = "cpu") -> dict[str, str]:
    maps = found("ConfigMap", overlay)
    variables: dict[str, str] = {}
    for source in container(name, overlay)["envFrom"]:
        variables |= maps[source["configMapRef"]["name"]]["data"]
    return variables | {one["name"]: one["value"] for one in container(name, overlay)["env"]}


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, overlay: str = "cpu") -> Settings:
    """The settings that the code reads in this pod, with secrets and certificates that are there."""
    for section in SECTIONS:
        for field in section.model_fields:
            monkeypatch.delenv(f"PAGEMILL_{field.upper()}", raising=False)
    for variable, value in environment(name, overlay).items():
        file = folder / variable
        if variable.endswith("_FILE"):
            file.write_text(f"value of {variable}\n")
        monkeypatch.setenv(variable, str(file) if variable.endswith("_FILE") else value)
    return Settings()


@pytest.mark.parametrize("one", EVERY_OBJECT)
def test_every_object_fits_its_schema(one: Object) -> None:
    group = one["apiVersion"].partition("/")[0]
    if (schema := CRDS / f"{group}.json").exists():
        jsonschema.validate(one, json.loads(schema.read_text())[one["kind"]])
    else:
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_a_misspelt_field_does_not_fit() -> None:
    for kind, name in (("Deployment", "worker"), ("ScaledObject", "worker"), ("KafkaUser", "pagemill-api")):
        wrong = merged(found(kind)[name], {"spec": {"replicaz": 1}})
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            test_every_object_fits_its_schema(wrong)


@EACH_OVERLAY
@EACH_PROCESS
def test_each_process_reads_its_settings_and_secrets(
    name: str, overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = {f"PAGEMILL_{field.upper()}" for section in SECTIONS for field in section.model_fields}
    assert {variable.removesuffix("_FILE") for variable in environment(name, overlay)} <= known
    settings = settings_of(name, monkeypatch, tmp_path, overlay)
    assert settings.embedder.embedder == {"cpu": "local", "gpu": "visual"}[overlay]
    if name != "embedder-text":
        assert settings.kafka.kafka_sasl_password.get_secret_value() == "value of PAGEMILL_KAFKA_SASL_PASSWORD_FILE"


@EACH_PROCESS
def test_secrets_are_files_that_are_mounted(name: str) -> None:
    mounts = {one["mountPath"]: one["name"] for one in container(name)["volumeMounts"]}
    volumes = {one["name"]: one for one in pod(name)["volumes"]}
    files = [value for variable, value in environment(name).items() if variable.endswith(("_FILE", "_CAFILE"))]
    for file in files:
        folder, _, key = file.rpartition("/")
        secret = volumes[mounts[folder]]["secret"]
        assert key in [item["key"] for item in secret["items"]]
    secret_names = re.compile(r"KEY$|PASSWORD$|TOKEN$|MONGO_URI$|REDIS_URL$")
    assert [variable for variable in environment(name) if secret_names.search(variable)] == []


@EACH_PROCESS
def test_the_command_exists_and_listens_where_it_is_probed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command: Any = typer.main.get_command(cli)
    for word in container(name)["args"][:2]:
        command = command.commands[word]
    settings = settings_of(name, monkeypatch, tmp_path)
    listens = {
        "api": (settings.api.api_host, settings.api.api_port),
        "embedder-text": (settings.embedder.embedder_host, settings.embedder.embedder_port),
    }.get(name, (settings.worker.worker_metrics_host, settings.worker.worker_metrics_port))
    [port] = container(name)["ports"]
    assert listens == ("0.0.0.0", port["containerPort"])
    probes = {kind: container(name)[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: one["path"] for kind, one in probes.items()} == {
        "startup": "/health",
        "liveness": "/health",
        "readiness": "/ready",
    }
    assert {one["port"] for one in probes.values()} == {port["name"]}


@EACH_OVERLAY
@EACH_PROCESS
def test_pods_have_no_rights(name: str, overlay: str) -> None:
    context = container(name, overlay)["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    whole = pod(name, overlay)["securityContext"]
    assert (whole["runAsNonRoot"], whole["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert f"\nUSER {whole['runAsUser']}:{whole['runAsGroup']}\n" in (ROOT / "deploy/docker/Dockerfile").read_text()
    assert pod(name, overlay)["automountServiceAccountToken"] is False
    assert "memory" in container(name, overlay)["resources"]["limits"]


def test_a_worker_is_given_time_to_drain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drain_s = settings_of("worker", monkeypatch, tmp_path).worker.drain_s
    assert pod("worker")["terminationGracePeriodSeconds"] >= drain_s + 30
    [shrink] = found("ScaledObject")["worker"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"][
        "scaleDown"
    ]["policies"]
    assert shrink["value"] == 1
    assert shrink["periodSeconds"] > pod("worker")["terminationGracePeriodSeconds"]


def test_a_model_that_loads_slowly_is_not_restarted() -> None:
    probe = container("worker")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > 900  # the self-test of a worker may take as long


def test_topics_are_those_of_the_settings() -> None:
    settings = KafkaSettings()
    topics = found("KafkaTopic")
    assert set(topics) == set(settings.topics)
    for name, topic in topics.items():
        many = name in (settings.kafka_jobs_topic, *settings.retry_topics.values())
        assert topic["spec"]["partitions"] == (settings.kafka_partitions if many else 1)
        assert topic["spec"]["config"]["min.insync.replicas"] == "2"
        assert (topic["spec"]["config"]["retention.ms"] == "-1") is (name == settings.dead_letter_topic)
    scaled = found("ScaledObject")["worker"]["spec"]
    assert scaled["maxReplicaCount"] <= settings.kafka_partitions
    [kafka] = [one["metadata"] for one in scaled["triggers"] if one["type"] == "kafka"]
    assert (kafka["topic"], kafka["consumerGroup"]) == (settings.kafka_jobs_topic, settings.kafka_group)


@pytest.mark.parametrize("process", ["api", "worker", "janitor"])
def test_users_have_the_rights_of_the_documentation(process: str) -> None:
    """The table "Smallest rights", and Describe on all topics."""
    settings = KafkaSettings()
    text = (ROOT / "docs/security.md").read_text()
    [row] = re.findall(rf"^\| {process} \|(.*)\|$", text, re.MULTILINE | re.IGNORECASE)
    jobs, retries, dead_letters, events, group = (
        {op for op in cell.strip().split(", ") if op} for cell in row.split("|")
    )
    expected = {
        settings.kafka_jobs_topic: jobs,
        **dict.fromkeys(settings.retry_topics.values(), retries),
        settings.dead_letter_topic: dead_letters,
        settings.kafka_events_topic: events,
    }
    acls = found("KafkaUser")[f"pagemill-{process}"]["spec"]["authorization"]["acls"]
    topics = {one["resource"]["name"]: set(one["operations"]) for one in acls if one["resource"]["type"] == "topic"}
    assert topics == {topic: {*operations, "Describe"} for topic, operations in expected.items()}
    groups = {one["resource"]["name"]: set(one["operations"]) for one in acls if one["resource"]["type"] == "group"}
    assert groups == ({settings.kafka_group: group} if group else {})
    assert environment(process)["PAGEMILL_KAFKA_SASL_USERNAME"] == f"pagemill-{process}"


def test_gpu_pods_have_a_gpu_each() -> None:
    for name in ("worker", "embedder-text"):
        assert container(name, "gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert container(name, "gpu")["image"].endswith("-gpu")
        models = [one for one in pod(name, "gpu")["volumes"] if one["name"] == "models"]
        assert [set(one) for one in models] == [{"name", "persistentVolumeClaim"}]
    assert "nvidia.com/gpu" not in container("janitor", "gpu")["resources"]["limits"]


def test_network_policies_name_ports_and_pods_that_exist() -> None:
    ports = {one["name"] for name in PROCESSES for one in container(name)["ports"]}
    for policy in found("NetworkPolicy").values():
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        assert {one["port"] for rule in rules for one in rule["ports"] if isinstance(one["port"], str)} <= ports
        text = json.dumps(policy)
        assert set(re.findall(r'"app.kubernetes.io/name": "([^"]+)"', text)) <= set(PROCESSES)
    assert found("NetworkPolicy")["nothing-else"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_only_what_is_rendered_here_may_be_in_a_kustomization(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: x-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path)
