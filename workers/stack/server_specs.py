"""The five servers of a stack: command line, data, ports, address and probe of each."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from ingestion.settings import KafkaSettings
from workers.stack import apache_kafka, binaries, kafka_kinds, milvus_server, probes
from workers.stack.datadir import Secrets
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.supervise import ProcessSpec, StackError

HOST: Final = "127.0.0.1"
BUCKET: Final = "pagemill"


class MilvusKind(StrEnum):
    """The kinds of Milvus that a stack can run."""

    LITE = "lite"
    SERVER = "server"


_FOLDERS: Final = ("mongo", "redis", "s3")
_MILVUS_FOLDERS: Final = {MilvusKind.LITE: "milvus", MilvusKind.SERVER: milvus_server.FOLDER}
"""A folder for each kind. Neither kind reads the other's files."""

_S3_PORT_OPTIONS: Final = {
    "s3": "-s3.port",
    "s3-grpc": "-s3.port.grpc",
    "s3-master": "-master.port",
    "s3-master-grpc": "-master.port.grpc",
    "s3-volume": "-volume.port",
    "s3-volume-grpc": "-volume.port.grpc",
    "s3-filer": "-filer.port",
    "s3-filer-grpc": "-filer.port.grpc",
    "s3-admin": "-admin.port",
    "s3-admin-grpc": "-admin.port.grpc",
}
"""Every port that the S3 server opens. With a default port a second stack could not start."""

_PORTS: Final = ("kafka", "mongo", "redis", "milvus", *_S3_PORT_OPTIONS)

# SIGTERM in place of SIGKILL: a server that is killed with its parent loses its latest writes.
_server = partial(ProcessSpec, orphan_signal=signal.SIGTERM)


def folders(milvus: MilvusKind, kafka: KafkaKind) -> tuple[str, ...]:
    """Return the folders under the data directory, one for each server that the stack starts."""
    own_kafka = () if kafka is KafkaKind.GIVEN else (kafka_kinds.FOLDERS[kafka],)
    return (*own_kafka, *_FOLDERS, _MILVUS_FOLDERS[milvus])


def ports_needed(milvus: MilvusKind, kafka: KafkaKind) -> tuple[str, ...]:
    of_kafka = apache_kafka.PORTS if kafka is KafkaKind.APACHE else ()
    of_milvus = milvus_server.PORTS if milvus is MilvusKind.SERVER else ()
    return (*_PORTS, *of_kafka, *of_milvus)


def check_kind(root: Path, milvus: MilvusKind) -> None:
    """Raises StackError where the data directory has its vectors in the other kind of Milvus."""
    for kind, folder in _MILVUS_FOLDERS.items():
        if kind is not milvus and (root / folder).is_dir() and any((root / folder).iterdir()):
            raise StackError(
                f"data directory {root} has its vectors in Milvus of the kind {kind.value!r}; "
                f"use --milvus {kind.value}, or another --data-dir"
            )


def all_servers(
    root: Path, ports: Mapping[str, int], secrets: Secrets, milvus: MilvusKind, kafka: KafkaKind
) -> list[ProcessSpec]:
    """Return the specs of the servers that the stack starts. Raises StackError where one is not installed."""
    folder = root / _MILVUS_FOLDERS[milvus]
    return [
        *([] if kafka is KafkaKind.GIVEN else [kafka_server(root, ports, kafka)]),
        mongo_server(root / "mongo", ports["mongo"]),
        _redis(root / "redis", ports["redis"]),
        _s3(root / "s3", ports, secrets),
        _milvus(folder, ports["milvus"]) if milvus is MilvusKind.LITE else milvus_server.spec(folder, ports),
    ]


def kafka_server(root: Path, ports: Mapping[str, int], kafka: KafkaKind) -> ProcessSpec:
    """The spec of a broker of this kind, NOIDA or APACHE."""
    folder = root / kafka_kinds.FOLDERS[kafka]
    return apache_kafka.spec(folder, ports) if kafka is KafkaKind.APACHE else _noida(folder, ports["kafka"])


def kafka_environment(ports: Mapping[str, int], kafka: KafkaKind) -> dict[str, str]:
    """The settings of a process that uses this broker. A given Kafka is used as the user's own settings say."""
    if kafka is KafkaKind.GIVEN:
        return {"PAGEMILL_KAFKA_BOOTSTRAP": KafkaSettings().kafka_bootstrap}
    return {"PAGEMILL_KAFKA_BOOTSTRAP": _address(ports["kafka"]), **kafka_kinds.settings(kafka)}


def server_environment(ports: Mapping[str, int], secrets: Secrets, kafka: KafkaKind) -> dict[str, str]:
    """The settings of a process that uses these servers."""
    return {
        **kafka_environment(ports, kafka),
        "PAGEMILL_MONGO_URI": _mongo_uri(ports["mongo"]),
        **MONGO_SETTINGS,
        "PAGEMILL_REDIS_URL": _redis_url(ports["redis"]),
        "PAGEMILL_S3_ENDPOINT": _address(ports["s3"]),
        "PAGEMILL_S3_ACCESS_KEY": secrets.s3_access_key,
        "PAGEMILL_S3_SECRET_KEY": secrets.s3_secret_key,
        "PAGEMILL_S3_BUCKET": BUCKET,
        **PLAIN_SETTINGS,
        "PAGEMILL_MILVUS_URI": _milvus_uri(ports["milvus"]),
    }


MONGO_SETTINGS: Final[Mapping[str, str]] = {"PAGEMILL_MONGO_STAND_IN": "true"}
"""The settings of a process that uses the stack's MongoDB, besides its address."""

PLAIN_SETTINGS: Final[Mapping[str, str]] = {
    "PAGEMILL_S3_SECURE": "false",
    "PAGEMILL_S3_CREDENTIALS": "keys",
    "PAGEMILL_S3_SESSION_TOKEN": "",
    "PAGEMILL_S3_ENCRYPTION": "none",
    "PAGEMILL_S3_ADDRESS_STYLE": "path",
    "PAGEMILL_MILVUS_TOKEN": "",
}
"""The user's own settings may be those of other servers: the stack's servers have no TLS and no other logins."""

DEFAULTS: Final[Mapping[MilvusKind, Mapping[str, str]]] = {
    MilvusKind.LITE: {
        # Milvus Lite builds an index again when it merges segments. 25,723 rows of 384 dimensions take two cores 2.5 s
        # with M 16 and efConstruction 50, 3.9 s with 100, 16.6 s with 500; searches find as much with 50 as with 100.
        "PAGEMILL_HNSW_M": "16",
        "PAGEMILL_HNSW_EF_CONSTRUCTION": "50",
        # It serves one request at a time, and each request reads every row. So searches share requests.
        "PAGEMILL_SEARCH_ANN_REQUESTS": "1",
    },
    MilvusKind.SERVER: {
        # With 50, recall here is 0.01 lower.
        "PAGEMILL_HNSW_M": "16",
        "PAGEMILL_HNSW_EF_CONSTRUCTION": "100",
    },
}
"""Settings that suit these servers on a small machine. The user's own settings have priority."""


def _noida(folder: Path, port: int) -> ProcessSpec:
    return _server(
        name="kafka",
        argv=_argv("kafka", "start", "--only", "kafka", "--kafka-port", port, "--data-dir", folder),
        address=_address(port),
        probe=partial(probes.kafka, _address(port)),
        cwd=folder,
    )


def mongo_server(folder: Path, port: int) -> ProcessSpec:
    config = folder / "empty.toml"
    config.touch()  # with a name here, the server looks for no file in the user's home
    options = ("--config", config, "--host", HOST, "--port", port, "--storage-path", folder / "db")
    return _server(
        name="mongo",
        argv=_argv("mongo", *options, "--cache-size", "256M", "--sync-on-commit"),  # without it a kill loses writes
        address=_mongo_uri(port),
        probe=partial(probes.mongo, _mongo_uri(port)),
        cwd=folder,
    )


def _redis(folder: Path, port: int) -> ProcessSpec:
    options = ("--port", port, "--bind", HOST, "--dir", folder, "--appendonly", "yes", "--save", "")
    return _server(
        name="redis",
        argv=_argv("redis", *options, "--databases", 512),  # each test uses one
        address=_redis_url(port),
        probe=partial(probes.redis, _redis_url(port)),
        cwd=folder,
    )


def _s3(folder: Path, ports: Mapping[str, int], secrets: Secrets) -> ProcessSpec:
    address = _address(ports["s3"])
    return _server(
        name="s3",
        argv=_argv(
            "s3",
            "-logtostderr=true",
            "mini",
            f"-dir={folder}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *(f"{option}={ports[name]}" for name, option in _S3_PORT_OPTIONS.items()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.localSocket=s3.sock",  # relative: the path of a socket is limited to 107 bytes
            "-filer.localSocket=filer.sock",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            f"-bucket={BUCKET}",
        ),
        address=f"http://{address}",
        probe=partial(probes.s3, address, secrets.s3_access_key, secrets.s3_secret_key, BUCKET),
        cwd=folder,
        # With credentials in its environment it refuses all others.
        env={"AWS_ACCESS_KEY_ID": secrets.s3_access_key, "AWS_SECRET_ACCESS_KEY": secrets.s3_secret_key},
    )


def _milvus(folder: Path, port: int) -> ProcessSpec:
    options = ("server", "--data-dir", folder, "--host", HOST, "--port", port)
    return _server(
        name="milvus",
        argv=_argv(
            "milvus", *options, "--max-workers", 1
        ),  # with more, rows are lost that clients write at the same time
        address=_milvus_uri(port),
        probe=partial(probes.milvus, _milvus_uri(port)),
        cwd=folder,
        # Rows that are not yet written to a segment cost each search 40 us; by default there may be 80,000 of them.
        env={"MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(16 * 1024**2)},
    )


def _argv(server: str, *options: object) -> tuple[str, ...]:
    return (str(binaries.find(server)), *map(str, options))


def _address(port: int) -> str:
    return f"{HOST}:{port}"


def _mongo_uri(port: int) -> str:
    return f"mongodb://{HOST}:{port}/?directConnection=true"


def _redis_url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def _milvus_uri(port: int) -> str:
    return f"http://{HOST}:{port}"
