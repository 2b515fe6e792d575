"""Apache Kafka in place of noida-db: one KRaft broker from an unpacked release, which KAFKA_HOME names.

Only Java and the jars in its `libs/` are used. The stack writes the properties itself.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from workers.stack import probes
from workers.stack.supervise import ProcessSpec, StackError

FOLDER: Final = "kafka-apache"
HOME_VARIABLE: Final = "KAFKA_HOME"
OLDEST_JAVA: Final = 17
INSTALL_JAVA: Final = f"install Java {OLDEST_JAVA} or later (Debian: apt-get install default-jre-headless)"

_HOST: Final = "127.0.0.1"
_CONTROLLER: Final = "kafka-controller"
PORTS: Final = (_CONTROLLER,)
"""The ports that a broker needs besides the port `kafka`."""
_READY_S: Final = 90.0
"""The controller refuses a broker that was killed until its old registration has run out, after 9 s."""
_STOP_S: Final = 30.0
_HEAP: Final = ("-Xms64m", "-Xmx384m")
_QUICK_START: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
_CLUSTER_ID_BYTES: Final = 16
_PROBE_TIMEOUT_S: Final = 10.0

_FORMAT_AND_RUN: Final = """
set -e
[ -e log/meta.properties ] || "$@" kafka.tools.StorageTool format --cluster-id "$CLUSTER_ID" --config server.properties
exec "$@" kafka.Kafka server.properties
"""
"""The shell becomes the broker. The formatter writes meta.properties last."""

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/log
auto.create.topics.enable=false
offsets.topic.num.partitions=5
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
log.index.size.max.bytes=1048576
"""

_LOG_CONFIG: Final = """\
Configuration:
  status: WARN
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: "%d{ISO8601} %p %m (%c{1})%n"
  Loggers:
    Root:
      level: INFO
      AppenderRef:
        - ref: STDOUT
"""


def find_home() -> Path:
    """Return the release that KAFKA_HOME names. Raises StackError where it is not set, or names no release."""
    named = os.environ.get(HOME_VARIABLE)
    if not named:
        raise StackError(f"{HOME_VARIABLE} is not set: set it to the folder of an unpacked Apache Kafka 4")
    home = Path(named).resolve()
    if not any(home.glob("libs/kafka-server-*.jar")):
        raise StackError(
            f"{HOME_VARIABLE}={named} is no Apache Kafka 4 ({home / 'libs'} has no kafka-server-*.jar): "
            f"unpack a release from https://kafka.apache.org/downloads and set {HOME_VARIABLE} to its folder"
        )
    return home


def find_java() -> Path | None:
    """Return the `java` of JAVA_HOME, or else of the PATH. Return None where there is none."""
    if home := os.environ.get("JAVA_HOME"):
        path = Path(home) / "bin" / "java"
        return path if path.is_file() else None
    found = shutil.which("java")
    return Path(found) if found else None


def require_java() -> Path:
    """Raises StackError, with what to install, where there is no Java or an old one."""
    java = find_java()
    if java is None:
        where = f"JAVA_HOME={os.environ['JAVA_HOME']}" if "JAVA_HOME" in os.environ else "the PATH"
        raise StackError(f"Apache Kafka needs Java, and {where} has none: {INSTALL_JAVA}")
    version = _java_version(java)
    if version < OLDEST_JAVA:
        raise StackError(f"Apache Kafka needs Java {OLDEST_JAVA}, and {java} is Java {version}: {INSTALL_JAVA}")
    return java


def spec(folder: Path, ports: Mapping[str, int]) -> ProcessSpec:
    """A broker with its data in `folder`, which exists. Raises StackError where Kafka or Java is not installed."""
    home, java = find_home(), require_java()
    port, controller_port = ports["kafka"], ports[_CONTROLLER]
    properties = _PROPERTIES.format(host=_HOST, port=port, controller_port=controller_port, folder=folder)
    (folder / "server.properties").write_text(properties)
    log_config = folder / "log4j2.yaml"
    log_config.write_text(_LOG_CONFIG)
    command = (java, *_HEAP, *_QUICK_START, f"-Dlog4j2.configurationFile={log_config}", "-cp", f"{home}/libs/*")
    address = f"{_HOST}:{port}"
    return ProcessSpec(
        name="kafka",
        argv=("/bin/sh", "-c", _FORMAT_AND_RUN, "kafka", *map(str, command)),
        address=f"{address} (Apache Kafka)",
        probe=partial(probes.kafka, address),
        cwd=folder,
        env={"CLUSTER_ID": _new_cluster_id()},
        ready_s=_READY_S,
        stop_s=_STOP_S,
        orphan_signal=signal.SIGTERM,
    )


def _java_version(java: Path) -> int:
    """Return the major version. Raises StackError where `java -version` does not say it."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=_PROBE_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(f"{java} does not run ({error}): {INSTALL_JAVA}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', run.stderr)  # Java 8 calls itself 1.8
    if found is None:
        raise StackError(f"{java} does not tell its version: {INSTALL_JAVA}")
    return int(found[1])


def _new_cluster_id() -> str:
    """16 random bytes in base64, as Kafka's own tool makes them. Only the first start on a folder uses it."""
    while (made := urlsafe_b64encode(secrets.token_bytes(_CLUSTER_ID_BYTES)).decode().rstrip("=")).startswith("-"):
        pass  # the formatter would take another one for an option
    return made
