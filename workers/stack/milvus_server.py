"""A real Milvus server in place of Milvus Lite: the wheel `milvus`, in a virtual environment of its own.

Measurements and tests use it. Unlike the other servers of the stack it listens on every interface of the machine, and
no setting changes that.
"""

from __future__ import annotations

import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from workers.stack import probes
from workers.stack.supervise import ProcessSpec, StackError

FOLDER: Final = "milvus-server"
INSTALL: Final = "make milvus-server"

_EXECUTABLE: Final = "milvus-server"
_OWN_ENVIRONMENT: Final = ".milvus-venv"
_HOST: Final = "127.0.0.1"
_READY_S: Final = 180.0
"""The first start on a data directory unpacks the server there, 300 MB."""
_SESSION_S: Final = 10
"""Milvus's sessions outlive a server that was killed, and the launcher kills it after a second. A server that starts
while sessions of the last run are still there takes their addresses for its own components and never becomes ready
(seen with the default of 30 s, after restarts within 15 s)."""
_SESSION_MARGIN_S: Final = 2.0
_LAST_SIGN_OF_LIFE: Final = Path("logs", "milvus-stdout.log")
"""A path below the data folder. A running server writes to it several times a second."""
_ETCD_CLIENT: Final = "milvus-etcd"
_ETCD_PEER: Final = "milvus-etcd-peer"
_PORT_OPTIONS: Final = {
    "milvus-proxy": "--proxy-internal-port",
    "milvus-root-coord": "--root-coord-port",
    "milvus-query-coord": "--query-coord-port",
    "milvus-query-node": "--query-node-port",
    "milvus-index-coord": "--index-coord-port",
    "milvus-index-node": "--index-node-port",
    "milvus-data-coord": "--data-coord-port",
    "milvus-data-node": "--data-node-port",
}

PORTS: Final = (_ETCD_CLIENT, _ETCD_PEER, *_PORT_OPTIONS)
"""The ports that it needs besides the port `milvus`. With a default port a second stack could not start."""


def find_executable() -> Path:
    """Return the executable. Raises StackError, with the command that installs it, where it is not installed."""
    places = [
        Path(sysconfig.get_path("scripts")) / _EXECUTABLE,
        Path(sys.prefix).parent / _OWN_ENVIRONMENT / "bin" / _EXECUTABLE,
    ]
    found = next((path for path in places if path.is_file()), None) or shutil.which(_EXECUTABLE)
    if found is None:
        raise StackError(
            f"the Milvus server is not installed: {INSTALL}, or, in a virtual environment of its own whose "
            f"{_EXECUTABLE} is on the PATH, pip install milvus==2.3.5 'setuptools<70'"
        )
    return Path(found)


def spec(folder: Path, ports: Mapping[str, int]) -> ProcessSpec:
    """The spec of a server with its data under `folder`, which exists. Raises StackError where it is not installed."""
    uri = f"http://{_HOST}:{ports['milvus']}"
    numbers = {"--proxy-port": ports["milvus"], **{option: ports[name] for name, option in _PORT_OPTIONS.items()}}
    options = [text for option, port in numbers.items() for text in (option, str(port))]
    return ProcessSpec(
        name="milvus",
        argv=(
            *(str(find_executable()), "--data", str(folder / "data"), *options),
            *("--extra-config", f"common.session.ttl={_SESSION_S}"),
        ),
        address=f"{uri} (Milvus server; it listens on all interfaces)",
        probe=partial(probes.milvus_lists, uri),
        cwd=folder,
        # There is no other way to set the ports of the etcd inside it.
        env={"ETCD_CONFIG_PATH": str(_etcd_config(folder, ports[_ETCD_CLIENT], ports[_ETCD_PEER]))},
        ready_s=_READY_S,
        start_delay_s=partial(_sessions_left_s, folder / "data"),
        # The launcher ends its server on this signal only.
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
    )


def _sessions_left_s(data: Path) -> float:
    """Return the seconds until the sessions of the last run have ended. Return 0 where there was no run."""
    try:
        ended_s = (data / _LAST_SIGN_OF_LIFE).stat().st_mtime
    except FileNotFoundError:
        return 0.0
    left_s = ended_s + _SESSION_S + _SESSION_MARGIN_S - time.time()
    return min(max(left_s, 0.0), _SESSION_S + _SESSION_MARGIN_S)


def _etcd_config(folder: Path, client_port: int, peer_port: int) -> Path:
    client, peer = (f"http://{_HOST}:{port}" for port in (client_port, peer_port))
    config = folder / "etcd.yaml"
    config.write_text(
        f"name: pagemill\n"
        f"data-dir: {folder / 'etcd'}\n"
        f"listen-client-urls: {client}\n"
        f"advertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: pagemill={peer}\n"
    )
    return config
