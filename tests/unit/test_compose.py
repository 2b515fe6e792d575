"""docker-compose.yml against the code: its settings, its commands, its probes, and what Compose asks of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ingestion.api.app import INSPECT_MEMORY_BYTES
from ingestion.settings import SECTIONS, Settings
from tests.support import composefile
from tests.support.composefile import ROOT, environment
from workers.cli import app as cli
from workers.runtime.health import Health, HealthServer

APP = ("init", "api", "embedder", "worker", "worker-gpu", "janitor")
SERVERS = ("kafka", "mongo", "valkey", "minio", "seaweedfs", "etcd", "milvus")
SLIM = ("init", "api", "janitor")
PROBED = {
    "api": "PAGEMILL_API_PORT",
    "embedder": "PAGEMILL_EMBEDDER_PORT",
    "worker": "PAGEMILL_WORKER_METRICS_PORT",
    "worker-gpu": "PAGEMILL_WORKER_METRICS_PORT",
    "janitor": "PAGEMILL_WORKER_METRICS_PORT",
}
NO_DIGEST = {"milvus"}
"""Public sources do not agree on it: `deploy/pin-digests --write` asks the registry."""
COMPOSE = composefile.load(composefile.filled_in())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that the code reads from the environment of this service in Compose."""
    for section in SECTIONS:
        for name in section.model_fields:
            monkeypatch.delenv(f"PAGEMILL_{name.upper()}", raising=False)
    for name, value in environment(SERVICES[service]).items():
        monkeypatch.setenv(name, value)
    return Settings()


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration), duration
    return int(duration[:-1])


@pytest.mark.parametrize("service", APP)
def test_every_variable_is_one_that_the_code_reads(service: str) -> None:
    known = {f"PAGEMILL_{name.upper()}" for section in SECTIONS for name in section.model_fields}
    assert set(environment(SERVICES[service])) <= known


@pytest.mark.parametrize("service", ["init", "api", "worker", "worker-gpu", "janitor"])
def test_clients_look_for_servers_where_they_listen(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(service, monkeypatch)
    assert (
        SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{found.kafka.kafka_bootstrap}"
    )
    assert urlsplit(found.mongo.mongo_uri).hostname == "mongo"
    assert urlsplit(found.redis.redis_url).hostname == "valkey"
    assert found.s3.s3_endpoint == SERVICES["milvus"]["environment"]["MINIO_ADDRESS"] == "minio:9000"
    assert found.milvus.milvus_uri == "http://milvus:19530"
    embedder = settings_of("embedder", monkeypatch).embedder
    assert found.embedder.embedder_url == f"http://embedder:{embedder.embedder_port}"


@pytest.mark.parametrize("service", ["init", "api", "worker", "worker-gpu", "janitor"])
def test_clients_show_the_credentials_that_servers_ask_for(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(service, monkeypatch)
    mongo, minio, milvus = (environment(SERVICES[name]) for name in ("mongo", "minio", "milvus"))
    mongo_uri = urlsplit(found.mongo.mongo_uri)
    assert mongo_uri.username == mongo["MONGO_INITDB_ROOT_USERNAME"]
    assert mongo_uri.password == mongo["MONGO_INITDB_ROOT_PASSWORD"]
    redis_command = SERVICES["valkey"]["command"]
    assert urlsplit(found.redis.redis_url).password == redis_command[redis_command.index("--requirepass") + 1]
    assert found.s3.s3_access_key == minio["MINIO_ROOT_USER"] == milvus["MINIO_ACCESS_KEY_ID"]
    secret = found.s3.s3_secret_key.get_secret_value()
    assert secret == minio["MINIO_ROOT_PASSWORD"] == milvus["MINIO_SECRET_ACCESS_KEY"]
    assert milvus["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    password = milvus["COMMON_SECURITY_DEFAULTROOTPASSWORD"]
    assert found.milvus.milvus_token.get_secret_value() == f"root:{password}"


def test_seaweedfs_can_take_the_place_of_minio() -> None:
    variables = composefile.filled_in() | {"S3_ENDPOINT": "seaweedfs:8333", "MINIO_REPLICAS": "0"}
    services = composefile.load(variables)["services"]
    assert services["minio"]["scale"] == "0"
    given = services["seaweedfs"]["environment"]
    for name in ("init", "api", "worker"):
        settings = environment(services[name])
        assert (
            settings["PAGEMILL_S3_ENDPOINT"] == services["milvus"]["environment"]["MINIO_ADDRESS"] == "seaweedfs:8333"
        )
        assert settings["PAGEMILL_S3_ACCESS_KEY"] == given["AWS_ACCESS_KEY_ID"]
        assert settings["PAGEMILL_S3_SECRET_KEY"] == given["AWS_SECRET_ACCESS_KEY"]
    assert "-s3.port=8333" in services["seaweedfs"]["command"]
    # A service of a profile that is off must not keep the others from starting.
    for name in ("init", "milvus"):
        assert services[name]["depends_on"]["seaweedfs"] == {"condition": "service_healthy", "required": False}


def test_compose_accepts_the_file() -> None:
    """Its published schema, which Compose itself uses."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_milvus_and_pagemill_keep_apart_in_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERVICES["milvus"]["environment"]["MINIO_BUCKET_NAME"] != settings_of("api", monkeypatch).s3.s3_bucket


def test_the_processes_listen_beyond_their_container_where_they_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    api = settings_of("api", monkeypatch).api
    assert api.api_host == "0.0.0.0"
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{api.api_port}:{api.api_port}"]
    assert settings_of("embedder", monkeypatch).embedder.embedder_host == "0.0.0.0"
    for service in ("worker", "worker-gpu", "janitor"):
        assert settings_of(service, monkeypatch).worker.worker_metrics_host == "0.0.0.0"
    for service, variable in PROBED.items():
        assert SERVICES[service]["healthcheck"]["test"] == ["CMD", "probe"]
        assert set(environment(SERVICES[service])) & set(PROBED.values()) == {variable}


@pytest.mark.parametrize(("is_ready", "healthy"), [(True, True), (False, False)])
def test_the_probe_of_the_images_fails_while_the_process_is_not_ready(is_ready: bool, healthy: bool) -> None:
    server = HealthServer("127.0.0.1", 0, lambda: Health(is_ready, []))
    try:
        assert (probe(PAGEMILL_WORKER_METRICS_PORT=str(server.port)).returncode == 0) is healthy
        assert probe("/health", PAGEMILL_WORKER_METRICS_PORT=str(server.port)).returncode == 0
    finally:
        server.close()


@pytest.mark.parametrize("ports", [{}, {"PAGEMILL_API_PORT": "1", "PAGEMILL_EMBEDDER_PORT": "2"}])
def test_the_probe_names_the_variables_that_say_where_to_ask(ports: dict[str, str]) -> None:
    done = probe(**ports)
    assert done.returncode == 1
    assert all(name in done.stderr for name in set(PROBED.values()))


def probe(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(ROOT / "deploy/docker/probe"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("secret", composefile.secrets())
def test_compose_refuses_to_start_without_a_secret(secret: str) -> None:
    variables = composefile.filled_in() | {secret: ""}
    with pytest.raises(composefile.Refused, match=secret):
        composefile.load(variables)


def test_every_password_comes_from_the_operator() -> None:
    words = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|REDISCLI_AUTH|_URI$|REDIS_URL")
    given = {
        name: value
        for service in composefile.source()["services"].values()
        for name, value in service.get("environment", {}).items()
        if words.search(name) and name != "PAGEMILL_MILVUS_URI"
    }
    assert len(given) >= 8
    assert [name for name, value in given.items() if ":?" not in value] == []


def test_env_example_names_every_variable_with_its_default() -> None:
    used = {
        (match["name"], match["kind"]): match["text"]
        for match in composefile.VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())
    }
    assert {name for name, kind in used if kind == "?"} == set(composefile.secrets())
    assert {name: text for (name, kind), text in used.items() if kind == "-"} == composefile.documented_defaults()


def test_the_embedder_holds_no_secret_but_that_of_its_cache() -> None:
    given = " ".join(map(str, composefile.source()["services"]["embedder"]["environment"].values()))
    assert set(re.findall(r"\$\{([A-Z0-9_]+):\?", given)) == {"REDIS_PASSWORD"}
    redis_urls = {environment(SERVICES[service])["PAGEMILL_REDIS_URL"] for service in ("embedder", "api")}
    assert len(redis_urls) == 1


def test_services_wait_for_services_that_can_become_what_they_wait_for() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in other
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert other["restart"].startswith("on-failure")


def test_init_migrates_once_all_servers_that_it_prepares_are_healthy() -> None:
    assert SERVICES["init"]["command"] == ["migrate"]
    waits_for = SERVICES["init"]["depends_on"]
    prepared = {"kafka", "mongo", "minio", "milvus"}
    assert prepared <= {name for name, on in waits_for.items() if on["condition"] == "service_healthy"}
    starts_later = [name for name in APP if name not in ("init", "embedder")]
    for name in starts_later:
        assert SERVICES[name]["depends_on"]["init"]["condition"] == "service_completed_successfully", name


def test_everything_that_runs_on_is_probed_and_restarted() -> None:
    for name, service in SERVICES.items():
        if name != "init":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
            assert seconds(service["healthcheck"]["timeout"]) <= seconds(service["healthcheck"]["interval"]), name


def test_every_server_keeps_its_data_in_a_declared_volume() -> None:
    named = {
        name: [v.split(":")[0] for v in service.get("volumes", []) if re.match(r"[a-z-]+:", v)]
        for name, service in SERVICES.items()
    }
    assert {volume for volumes in named.values() for volume in volumes} == set(COMPOSE["volumes"])
    assert all(named[server] for server in SERVERS)


def test_mounted_files_are_there() -> None:
    sources = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith(".")]
    assert len(sources) == 4
    assert all((ROOT / source).is_dir() for source in sources)


def test_the_proxy_stands_before_the_embedders_where_clients_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = (ROOT / "deploy/nginx/embedder.conf").read_text()
    embedder = settings_of("embedder", monkeypatch)
    assert f"server embedder:{embedder.embedder.embedder_port} " in shipped
    (port,) = re.findall(r"listen (\d+);", shipped)
    assert SERVICES["embedder-proxy"]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/ready"
    assert f"http://embedder-proxy:{port}" in (ROOT / ".env.example").read_text()
    assert not {"ports", "container_name", "hostname"} & set(SERVICES["embedder"])
    assert shipped.count(f"{embedder.serving.embed_max_body_bytes // 1024**2}m;") == 2, "of a body, in memory"


@pytest.mark.parametrize("service", ["worker", "worker-gpu"])
def test_workers_can_be_scaled(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"ports", "container_name", "hostname"} & set(SERVICES[service])
    assert settings_of(service, monkeypatch).worker.worker_id == ""


@pytest.mark.parametrize("service", ["worker", "worker-gpu"])
def test_a_worker_is_given_time_to_drain(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drain_s = settings_of(service, monkeypatch).worker.drain_s
    assert seconds(SERVICES[service]["stop_grace_period"]) >= drain_s + 15


@pytest.mark.parametrize("service", ["worker", "worker-gpu"])
def test_queries_and_pages_are_embedded_by_the_same_model(service: str) -> None:
    embedder = SERVICES["embedder"]["environment"]["PAGEMILL_EMBEDDER"]
    assert SERVICES[service]["environment"]["PAGEMILL_EMBEDDER"] == embedder


@pytest.mark.parametrize("service", APP)
def test_the_images_target_fits_the_process(service: str) -> None:
    target = SERVICES[service]["build"]["target"]
    expected = {"worker-gpu": "cuda", **dict.fromkeys(SLIM, "slim")}.get(service, "cpu")
    assert target == expected
    assert f" AS {target}\n" in DOCKERFILE
    suffix = {"cpu": "", "cuda": "-gpu", "slim": "-slim"}[target]
    assert SERVICES[service]["image"] == f"pagemill:{PROJECT['version']}{suffix}"


def test_the_gpu_worker_is_the_worker_with_a_gpu() -> None:
    plain, gpu = SERVICES["worker"], SERVICES["worker-gpu"]
    assert {key for key in gpu if gpu[key] != plain.get(key)} == {"profiles", "image", "build", "deploy"}
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize("service", APP)
def test_the_command_exists(service: str) -> None:
    command: Any = typer.main.get_command(cli)
    for word in SERVICES[service]["command"]:
        command = command.commands[word]
    assert not hasattr(command, "commands")


@pytest.mark.parametrize("service", APP)
def test_pagemills_containers_can_change_nothing_but_tmp(service: str) -> None:
    found = SERVICES[service]
    assert (found["read_only"], found["cap_drop"], found["init"]) == (True, ["ALL"], True)
    assert set(found["volumes"]) <= {"/tmp", "models:/models"}
    assert "no-new-privileges:true" in found["security_opt"]


def test_nothing_is_published_beyond_this_machine_by_default() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api", "minio", "seaweedfs", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_images_are_pinned_by_tag_and_digest() -> None:
    for name, service in SERVICES.items():
        if name in APP:
            continue
        tagged, _, digest = service["image"].partition("@")
        assert re.search(r":v?\d+\.\d+(\.\d+)?|:RELEASE\.\d{4}-\d\d-\d\d", tagged), name
        if name not in NO_DIGEST:
            assert re.fullmatch("sha256:[0-9a-f]{64}", digest), name


def test_the_images_python_is_one_that_the_project_supports() -> None:
    bases = set(re.findall(r"^FROM python:(\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 1
    found = re.fullmatch(r"([\d.]+)-slim-bookworm@sha256:[0-9a-f]{64}", bases.pop())
    assert found is not None
    assert Version(found[1]) in SpecifierSet(PROJECT["requires-python"])


def test_the_image_runs_as_an_unprivileged_user() -> None:
    (user,) = set(re.findall(r"^USER ([1-9]\d*):\d+$", DOCKERFILE, re.MULTILINE))
    assert int(user) >= 10_000
    stages = {stage.partition("\n")[0]: stage for stage in DOCKERFILE.split(" AS ")[1:]}
    for name in ("runtime", "worker"):
        assert stages[name].rindex(f"\nUSER {user}") > stages[name].rindex("\nRUN ")
    for name in ("slim", "cpu", "cuda"):
        assert not re.search(r"^(USER|RUN) ", stages[name], re.MULTILINE)
        assert "\nHEALTHCHECK " in stages[name]


def test_the_build_context_holds_what_the_image_copies_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    lines = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--from).*$", DOCKERFILE, re.MULTILINE)]
    assert rules[0] == "*"
    copied = {name for names in lines for name in names if not name.startswith("--")}
    assert {rule for name in copied for rule in allowed if fnmatch(name, rule)} == allowed
    assert all(any(fnmatch(name, rule) for rule in allowed) and (ROOT / name).exists() for name in copied)


def test_topics_are_made_by_pagemill_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = environment(SERVICES["kafka"])
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings_of("init", monkeypatch).kafka.kafka_replication == 1
    factors = [value for name, value in kafka.items() if name.endswith(("_REPLICATION_FACTOR", "_MIN_ISR"))]
    assert factors == ["1"] * 5  # one broker


def test_nginx_gives_up_idle_connections_before_the_service_does_and_as_slow_heads() -> None:
    http = Settings().http
    conf = (ROOT / "deploy/nginx/embedder.conf").read_text()
    [upstream_s] = re.findall(r"upstream embedder \{.*?keepalive_timeout (\d+)s;", conf, re.DOTALL)
    [header_s] = re.findall(r"client_header_timeout (\d+)s;", conf)
    [keepalive] = re.findall(r"keepalive (\d+);", conf)
    assert int(upstream_s) < http.http_keep_alive_s
    assert int(header_s) == http.http_header_timeout_s
    assert int(keepalive) < http.http_max_connections / 2


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_limits_of_all_children_fit_into_the_container(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All children at their limits at once, beside the process that has started them."""
    settings = settings_of(service, monkeypatch)
    children_bytes = {
        "api": (settings.api.inspect_processes + 1) * INSPECT_MEMORY_BYTES,
        "worker": (settings.render.render_processes / 2 + 1) * settings.render.render_memory_bytes,
    }[service]
    itself_bytes = {"api": 0.4 * 1024**3, "worker": 1.5 * 1024**3}[service]
    limit = SERVICES[service]["mem_limit"]
    assert children_bytes + itself_bytes <= int(limit[:-1]) * {"m": 1024**2, "g": 1024**3}[limit[-1]]
