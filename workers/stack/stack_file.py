"""stack.json: the addresses and the processes of a running stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from workers.stack import kafka_kinds
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.server_specs import MONGO_SETTINGS, PLAIN_SETTINGS, MilvusKind
from workers.stack.supervise import Supervised

_SETTINGS: Final = {
    "api_url": "PAGEMILL_API_URL",
    "api_key": "PAGEMILL_API_KEY",
    "embedder_url": "PAGEMILL_EMBEDDER_URL",
    "kafka": "PAGEMILL_KAFKA_BOOTSTRAP",
    "mongo": "PAGEMILL_MONGO_URI",
    "redis": "PAGEMILL_REDIS_URL",
    "milvus": "PAGEMILL_MILVUS_URI",
}
_S3_SETTINGS: Final = {
    "endpoint": "PAGEMILL_S3_ENDPOINT",
    "access_key": "PAGEMILL_S3_ACCESS_KEY",
    "secret_key": "PAGEMILL_S3_SECRET_KEY",
    "bucket": "PAGEMILL_S3_BUCKET",
}


def describe(
    environment: Mapping[str, str], processes: Iterable[Supervised], milvus: MilvusKind, kafka: KafkaKind
) -> dict[str, Any]:
    """Return the content of stack.json, from the settings of the stack's processes."""
    return {
        **{key: environment[variable] for key, variable in _SETTINGS.items()},
        "s3": {key: environment[variable] for key, variable in _S3_SETTINGS.items()},
        "milvus_kind": milvus.value,
        "kafka_server": kafka.value,
        "processes": [
            {"name": process.spec.name, "pid": process.pid, "address": process.spec.address} for process in processes
        ],
    }


def environment_of(stack: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a process that uses the stack of `stack`, a stack.json.

    The logins of a given Kafka are not among them. They come from the user's own settings.
    """
    kafka = KafkaKind(stack["kafka_server"])
    return {
        **({} if kafka is KafkaKind.GIVEN else kafka_kinds.settings(kafka)),
        **MONGO_SETTINGS,
        **PLAIN_SETTINGS,
        **{variable: stack[key] for key, variable in _SETTINGS.items()},
        **{variable: stack["s3"][key] for key, variable in _S3_SETTINGS.items()},
    }
