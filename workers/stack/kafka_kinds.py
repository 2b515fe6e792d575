"""Chooses the Kafka that a local stack uses."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

from workers.stack import apache_kafka
from workers.stack.supervise import StackError


class KafkaKind(StrEnum):
    """`choose` replaces AUTO by one of the others."""

    AUTO = "auto"
    APACHE = "apache"
    NOIDA = "noida"
    GIVEN = "given"


FOLDERS: Final = {KafkaKind.APACHE: apache_kafka.FOLDER, KafkaKind.NOIDA: "kafka"}
"""A folder for each kind that the stack starts. Neither kind reads the other's files."""


def settings(kind: KafkaKind) -> dict[str, str]:
    """The settings of a process that uses a broker of the stack, besides its address."""
    return {
        # The user's own settings may be those of another Kafka.
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "PAGEMILL_KAFKA_STAND_IN": "true" if kind is KafkaKind.NOIDA else "false",
    }


def choose(root: Path, asked: KafkaKind) -> KafkaKind:
    """Returns the kind for a stack with its data in `root`.

    AUTO is the kind that has data there, or else APACHE where KAFKA_HOME is set and Java is installed, or else NOIDA.
    Raises StackError where the data directory has its jobs in another kind.
    """
    held = [kind for kind, folder in FOLDERS.items() if (root / folder).is_dir() and any((root / folder).iterdir())]
    if asked is KafkaKind.AUTO:
        return held[0] if held else default()
    if held and asked not in held:
        raise StackError(
            f"data directory {root} has its jobs in Kafka of the kind {held[0].value!r}; "
            f"use --kafka {held[0].value}, or another --data-dir"
        )
    return asked


def default() -> KafkaKind:
    """Return the kind for an empty data directory."""
    wanted = os.environ.get(apache_kafka.HOME_VARIABLE) and apache_kafka.find_java()
    return KafkaKind.APACHE if wanted else KafkaKind.NOIDA
