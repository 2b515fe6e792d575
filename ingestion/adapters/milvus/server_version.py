"""The version of a Milvus server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingestion.adapters.milvus.stand_in import LITE

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_RELEASE: Final = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """`text`: as the server names it."""

    text: str

    @property
    def is_lite(self) -> bool:
        return self.text.startswith(LITE)

    def is_before(self, major: int, minor: int) -> bool:
        """False where the text names no release: a server built from source may have any name."""
        release = _RELEASE.match(self.text)
        return release is not None and (int(release[1]), int(release[2])) < (major, minor)


def server_version(client: MilvusClient, timeout_s: float) -> ServerVersion:
    return ServerVersion(str(client.get_server_version(timeout=timeout_s)))
