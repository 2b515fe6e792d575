"""The rights of docs/security.md on Redis."""

from __future__ import annotations

from typing import Final

RIGHTS: Final = (
    "~task:* ~outages ~metrics:ingestion ~query:* ~emb:* +ping +select +client|setinfo +hello +multi +exec +hset "
    "+expire +hgetall +del +hincrby +get +set +getex +evalsha +script|load"
)
